-- no transaction
-- Every worker of the product process asks each second which tokens were revoked.

CREATE INDEX CONCURRENTLY IF NOT EXISTS idx_users_tokens_revoked_at ON users (tokens_revoked_at) WHERE tokens_revoked_at IS NOT NULL;
