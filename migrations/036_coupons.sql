-- Coupons, and those that users have.

CREATE TABLE coupons (
    id             BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name           VARCHAR(64) NOT NULL,
    kind           VARCHAR(10) NOT NULL,
    off            BIGINT CHECK (off > 0),
    threshold      BIGINT CHECK (threshold > 0),
    percent        INT CHECK (percent BETWEEN 1 AND 100),
    cap            BIGINT CHECK (cap > 0),
    scope          VARCHAR(8) NOT NULL CHECK (scope IN ('ALL', 'CATEGORY', 'SPU', 'SKU')),
    scope_ids      BIGINT[] NOT NULL DEFAULT '{}',
    starts_at      TIMESTAMPTZ NOT NULL,
    ends_at        TIMESTAMPTZ CHECK (ends_at > starts_at),
    total          BIGINT NOT NULL CHECK (total >= 0),
    claimed        BIGINT NOT NULL DEFAULT 0,
    limit_per_user INT NOT NULL CHECK (limit_per_user > 0),
    enabled        BOOLEAN NOT NULL,
    version        BIGINT NOT NULL DEFAULT 1,
    created_at     TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at     TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT coupons_within_total CHECK (claimed BETWEEN 0 AND total),
    CONSTRAINT coupons_kind CHECK (CASE kind
        WHEN 'AMOUNT' THEN off IS NOT NULL AND threshold IS NULL AND percent IS NULL AND cap IS NULL
        WHEN 'THRESHOLD' THEN off IS NOT NULL AND threshold IS NOT NULL AND percent IS NULL AND cap IS NULL
        WHEN 'PERCENT' THEN off IS NULL AND threshold IS NULL AND percent IS NOT NULL
        ELSE false END)
);
COMMENT ON TABLE coupons IS 'Coupons that users can claim. Written by: product.';
COMMENT ON COLUMN coupons.claimed IS 'Number of its rows in user_coupons, granted ones included';
COMMENT ON COLUMN coupons.limit_per_user IS 'How many one user may claim; granted ones do not count';
COMMENT ON COLUMN coupons.version IS 'Counts changes by operators, but not claims';

CREATE TABLE user_coupons (
    id         BIGINT PRIMARY KEY,
    coupon_id  BIGINT NOT NULL REFERENCES coupons (id),
    user_id    UUID NOT NULL,
    status     VARCHAR(8) NOT NULL DEFAULT 'UNUSED' CHECK (status IN ('UNUSED', 'HELD', 'USED')),
    order_id   BIGINT REFERENCES orders (id),
    granted    BOOLEAN NOT NULL,
    request_id VARCHAR(64),
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT user_coupons_order CHECK ((status = 'UNUSED') = (order_id IS NULL))
);
CREATE INDEX idx_user_coupons_user_id ON user_coupons (user_id, id DESC);
CREATE INDEX idx_user_coupons_coupon_id ON user_coupons (coupon_id, user_id);
CREATE UNIQUE INDEX uk_user_coupons_order ON user_coupons (order_id) WHERE order_id IS NOT NULL;
CREATE UNIQUE INDEX uk_user_coupons_request ON user_coupons (coupon_id, user_id, granted, request_id) WHERE request_id IS NOT NULL;
COMMENT ON TABLE user_coupons IS 'The coupons that users have. Written by: product.';
COMMENT ON COLUMN user_coupons.status IS 'UNUSED; HELD by an unpaid order; USED by a paid one. An UNUSED one whose coupon has ended is shown as EXPIRED';
COMMENT ON COLUMN user_coupons.granted IS 'Whether an operator gave it; otherwise its user claimed it';

GRANT SELECT, INSERT, UPDATE ON coupons, user_coupons TO kaimai_product;
