-- The time from which the default limit of a sale applies. A user who held more before that does not exceed it.

ALTER TABLE sales ADD COLUMN limited_at TIMESTAMPTZ NOT NULL DEFAULT now();
COMMENT ON COLUMN sales.limited_at IS 'When default_limit was last changed. For a limit of a single user, vip_limits.updated_at says the same';
