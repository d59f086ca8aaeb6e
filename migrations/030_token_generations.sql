-- A password change revokes the tokens of its user.

ALTER TABLE users ADD COLUMN token_generation BIGINT NOT NULL DEFAULT 1;
ALTER TABLE users ADD COLUMN tokens_revoked_at TIMESTAMPTZ;
COMMENT ON COLUMN users.token_generation IS 'Claim gen of the tokens that are valid; tokens with a smaller one are revoked';
COMMENT ON COLUMN users.tokens_revoked_at IS 'When token_generation was last incremented; NULL: never';
