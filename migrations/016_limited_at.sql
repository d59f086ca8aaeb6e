-- Since when a sale's default limit stands: who held more before that is not over it. Written by: product.

ALTER TABLE sales ADD COLUMN limited_at TIMESTAMPTZ NOT NULL DEFAULT now();
COMMENT ON COLUMN sales.limited_at IS 'When default_limit was set last; vip_limits.updated_at is the same of a single user''s';
