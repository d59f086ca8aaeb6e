-- Rules of prices: promotions and freight, and the discounts that orders were given.

CREATE TABLE promotions (
    id             BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind           VARCHAR(16) NOT NULL,
    name           VARCHAR(64) NOT NULL,
    sku_id         BIGINT REFERENCES sku (id),
    price          BIGINT CHECK (price >= 0),
    limit_per_user INT CHECK (limit_per_user > 0),
    scope          VARCHAR(8) CHECK (scope IN ('ALL', 'CATEGORY', 'SPU', 'SKU')),
    scope_ids      BIGINT[] NOT NULL DEFAULT '{}',
    tiers          JSONB,
    enabled        BOOLEAN NOT NULL,
    starts_at      TIMESTAMPTZ NOT NULL,
    ends_at        TIMESTAMPTZ CHECK (ends_at > starts_at),
    version        BIGINT NOT NULL DEFAULT 1,
    created_at     TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at     TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT promotions_kind CHECK (CASE kind
        WHEN 'LIMITED_PRICE' THEN sku_id IS NOT NULL AND price IS NOT NULL AND scope IS NULL AND tiers IS NULL
        WHEN 'FULL_REDUCTION' THEN sku_id IS NULL AND price IS NULL AND limit_per_user IS NULL AND scope IS NOT NULL
            AND jsonb_typeof(tiers) = 'array'
        ELSE false END)
);
CREATE INDEX idx_promotions_sku_id ON promotions (sku_id) WHERE enabled AND sku_id IS NOT NULL;
CREATE INDEX idx_promotions_reductions ON promotions (id) WHERE enabled AND kind = 'FULL_REDUCTION';
COMMENT ON TABLE promotions IS 'Discounts that apply without a coupon: a lower price of one sku, or an amount off goods that reach a threshold. Written by: product.';
COMMENT ON COLUMN promotions.limit_per_user IS 'LIMITED_PRICE: units that one user may have at the price. NULL: any number';
COMMENT ON COLUMN promotions.tiers IS 'FULL_REDUCTION: [{"thresholdFen": "10000", "offFen": "1000"}], fen as text. The highest one that is reached applies';

CREATE TABLE freight_rules (
    id               BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    region_prefix    VARCHAR(32) NOT NULL CONSTRAINT uk_freight_rules_region UNIQUE,
    kind             VARCHAR(8) NOT NULL CHECK (kind IN ('FLAT', 'BY_UNITS')),
    first_fee        BIGINT NOT NULL CHECK (first_fee >= 0),
    first_units      INT CHECK (first_units > 0),
    further_fee      BIGINT CHECK (further_fee >= 0),
    further_units    INT CHECK (further_units > 0),
    free_above       BIGINT CHECK (free_above >= 0),
    enabled          BOOLEAN NOT NULL,
    version          BIGINT NOT NULL DEFAULT 1,
    created_at       TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at       TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT freight_rules_kind CHECK ((kind = 'BY_UNITS') = (first_units IS NOT NULL)
        AND (kind = 'BY_UNITS') = (further_fee IS NOT NULL) AND (kind = 'BY_UNITS') = (further_units IS NOT NULL))
);
COMMENT ON TABLE freight_rules IS 'Freight of an order of goods by the beginning of its receiver''s region; the longest prefix wins. Written by: product.';
COMMENT ON COLUMN freight_rules.first_fee IS 'FLAT: freight of the order, fen. BY_UNITS: of its first_units';
COMMENT ON COLUMN freight_rules.free_above IS 'Goods that cost this much after discounts travel free, fen. NULL: never';

CREATE TABLE order_discounts (
    order_id BIGINT NOT NULL REFERENCES orders (id),
    rule     VARCHAR(16) NOT NULL CHECK (rule IN ('LIMITED_PRICE', 'FULL_REDUCTION', 'COUPON')),
    rule_id  BIGINT NOT NULL,
    sku_id   BIGINT NOT NULL,
    user_id  UUID NOT NULL,
    name     VARCHAR(64) NOT NULL,
    amount   BIGINT NOT NULL CHECK (amount >= 0),
    units    INT NOT NULL CHECK (units > 0),
    PRIMARY KEY (order_id, rule, rule_id, sku_id)
);
CREATE INDEX idx_order_discounts_limited ON order_discounts (user_id, rule_id) WHERE rule = 'LIMITED_PRICE';
COMMENT ON TABLE order_discounts IS 'What each rule took off each line of an order, when the order was created. Written by: product.';
COMMENT ON COLUMN order_discounts.units IS 'Units of the line that the rule was about; those of a LIMITED_PRICE count towards its limit per user';

GRANT SELECT, INSERT, UPDATE ON promotions, freight_rules TO kaimai_product;
-- No UPDATE: what an order was quoted does not change.
GRANT SELECT, INSERT ON order_discounts TO kaimai_product;
