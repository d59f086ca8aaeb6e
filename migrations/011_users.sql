-- Users and their credentials.

CREATE TABLE users (
    id            BIGSERIAL PRIMARY KEY,
    user_id       UUID NOT NULL,
    username      VARCHAR(64) NOT NULL,
    username_key  TEXT NOT NULL,
    password_hash TEXT NOT NULL CHECK (password_hash ~ '^\$argon2id\$' OR password_hash ~ '^\$md5\$[0-9a-f]{32}$'),
    first_name    VARCHAR(64) NOT NULL DEFAULT '',
    last_name     VARCHAR(64) NOT NULL DEFAULT '',
    version       BIGINT NOT NULL DEFAULT 1,
    created_at    TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at    TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT uk_users_user_id UNIQUE (user_id),
    CONSTRAINT uk_users_username_key UNIQUE (username_key)
);
COMMENT ON TABLE users IS 'Users who can log in. Other tables may refer to users that are not here, because a trusted caller may authenticate its own users. Written by: product.';
COMMENT ON COLUMN users.id IS 'Internal to this table. Everything else refers to a user by user_id';
COMMENT ON COLUMN users.username IS 'As the user writes it, in NFKC';
COMMENT ON COLUMN users.username_key IS 'The case-folded name (internal/biz/user/username.ts). Names with the same key are the same name';
COMMENT ON COLUMN users.password_hash IS '$argon2id$… (PHC string). Imported users: $md5$<32 hex digits> until their first login';
COMMENT ON COLUMN users.version IS 'Counts changes of the row';

GRANT SELECT, INSERT, UPDATE ON users TO kaimai_product;
GRANT USAGE, SELECT ON SEQUENCE users_id_seq TO kaimai_product;
