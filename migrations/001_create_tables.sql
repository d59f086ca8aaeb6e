-- The four tables of the product database, with their indexes.
-- It can be run by hand (psql -U postgres -d product_db -f migrations/001_create_tables.sql), also more than once.
-- `kaimai migrate` runs it as well and records it.

-- A value object that never changes. A different specification is a new row and a new product.
CREATE TABLE IF NOT EXISTS product_specs (
    id          BIGSERIAL PRIMARY KEY,
    cpu         INT NOT NULL CHECK (cpu > 0),
    memory      INT NOT NULL CHECK (memory > 0),
    gpu         INT NOT NULL DEFAULT 0 CHECK (gpu >= 0),
    image       VARCHAR(255) NOT NULL,
    config_json JSONB,
    created_at  TIMESTAMPTZ NOT NULL DEFAULT now()
);
COMMENT ON TABLE product_specs IS 'Specifications of instance plans. Immutable. Written by: product.';
COMMENT ON COLUMN product_specs.memory IS 'GB';

CREATE OR REPLACE FUNCTION product_specs_immutable() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'product_specs % is immutable: create a new specification instead', OLD.id
        USING ERRCODE = 'restrict_violation';
END $$;
CREATE OR REPLACE TRIGGER product_specs_no_update
    BEFORE UPDATE ON product_specs FOR EACH ROW EXECUTE FUNCTION product_specs_immutable();

CREATE TABLE IF NOT EXISTS products (
    id          BIGSERIAL PRIMARY KEY,
    name        VARCHAR(128) NOT NULL,
    description TEXT NOT NULL DEFAULT '',
    status      SMALLINT NOT NULL DEFAULT 0 CHECK (status IN (0, 1)),
    price       BIGINT NOT NULL CHECK (price >= 0),
    spec_id     BIGINT NOT NULL REFERENCES product_specs (id),
    created_at  TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at  TIMESTAMPTZ NOT NULL DEFAULT now()
);
COMMENT ON TABLE products IS 'Instance plans. Written by: product.';
COMMENT ON COLUMN products.status IS '1 ENABLED, 0 DISABLED';
COMMENT ON COLUMN products.price IS 'Unit price, fen';

CREATE TABLE IF NOT EXISTS orders (
    id           BIGINT PRIMARY KEY,
    user_id      UUID NOT NULL,
    product_id   BIGINT REFERENCES products (id),
    req_id       BIGINT NOT NULL,
    amount       BIGINT NOT NULL CHECK (amount >= 0),
    instance_id  BIGINT,
    status       SMALLINT NOT NULL DEFAULT 0,
    source       VARCHAR(20) NOT NULL CHECK (source IN ('SECKILL', 'NORMAL')),
    created_at   TIMESTAMPTZ NOT NULL DEFAULT now(),
    paid_at      TIMESTAMPTZ,
    completed_at TIMESTAMPTZ
);
COMMENT ON TABLE orders IS 'Orders of every type. Written by: product.';
COMMENT ON COLUMN orders.id IS 'Snowflake id';
COMMENT ON COLUMN orders.req_id IS 'Request number. SECKILL: the counter in Redis (epoch << 32 + n). NORMAL: a snowflake id';
COMMENT ON COLUMN orders.amount IS 'Amount due, fen';
COMMENT ON COLUMN orders.status IS '0 PENDING, 1 PAID, 2 CANCELLED, 3 COMPLETED';

-- Only the resource domain writes this table. The product domain records its requests in instance_requests.
CREATE TABLE IF NOT EXISTS instance_logs (
    id          BIGSERIAL PRIMARY KEY,
    product_id  BIGINT NOT NULL,
    user_id     UUID NOT NULL,
    instance_id BIGINT NOT NULL,
    source      VARCHAR(20) NOT NULL,
    source_id   VARCHAR(64) NOT NULL,
    status      VARCHAR(20) NOT NULL DEFAULT 'PROCESSING' CHECK (status IN ('PROCESSING', 'SUCCESS', 'FAILED')),
    created_at  TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at  TIMESTAMPTZ NOT NULL DEFAULT now()
);
COMMENT ON TABLE instance_logs IS 'Every requested instance. Written by: resource.';

CREATE INDEX IF NOT EXISTS idx_products_spec_id ON products (spec_id);
CREATE INDEX IF NOT EXISTS idx_products_status ON products (status);

CREATE UNIQUE INDEX IF NOT EXISTS uk_orders_product_req ON orders (product_id, req_id);
CREATE INDEX IF NOT EXISTS idx_orders_user_id ON orders (user_id);
CREATE INDEX IF NOT EXISTS idx_orders_product_id ON orders (product_id);
CREATE INDEX IF NOT EXISTS idx_orders_instance_id ON orders (instance_id);
CREATE INDEX IF NOT EXISTS idx_orders_status ON orders (status);
CREATE INDEX IF NOT EXISTS idx_orders_source ON orders (source);

CREATE INDEX IF NOT EXISTS idx_instance_logs_product_id ON instance_logs (product_id);
CREATE INDEX IF NOT EXISTS idx_instance_logs_user_id ON instance_logs (user_id);
CREATE INDEX IF NOT EXISTS idx_instance_logs_instance_id ON instance_logs (instance_id);
CREATE INDEX IF NOT EXISTS idx_instance_logs_source ON instance_logs (source);
CREATE INDEX IF NOT EXISTS idx_instance_logs_source_id ON instance_logs (source_id);
