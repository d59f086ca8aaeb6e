-- Optimistic locking of products and orders, the snapshot of what was bought, order events, payments and refunds.

-- Products, skus and contents draw their ids from one sequence, so that an item id is unique across all of them.
CREATE SEQUENCE item_id_seq START WITH 1001;
SELECT setval('item_id_seq', greatest(1001, (SELECT coalesce(max(id), 0) + 1 FROM products)), false);
ALTER TABLE products ALTER COLUMN id SET DEFAULT nextval('item_id_seq');
ALTER TABLE products
    ADD COLUMN image_url VARCHAR(1024) NOT NULL DEFAULT '',
    ADD COLUMN seller_id UUID,
    ADD COLUMN version   BIGINT NOT NULL DEFAULT 1;

ALTER TABLE orders
    -- Derived from the id, so it is unique without an index, and a lookup by number is a lookup by id.
    ADD COLUMN order_no     VARCHAR(64) NOT NULL GENERATED ALWAYS AS ('ORD' || id::text) STORED,
    ADD COLUMN order_type   VARCHAR(10) NOT NULL DEFAULT 'INSTANCE'
        CHECK (order_type IN ('INSTANCE', 'GOODS', 'CONTENT')),
    ADD COLUMN product_name VARCHAR(200) NOT NULL DEFAULT '',
    ADD COLUMN price        BIGINT NOT NULL DEFAULT 0 CHECK (price >= 0),
    ADD COLUMN quantity     INT NOT NULL DEFAULT 1 CHECK (quantity > 0),
    ADD COLUMN sale_id      BIGINT,
    ADD COLUMN request_id   VARCHAR(64),
    ADD COLUMN remark       VARCHAR(255) NOT NULL DEFAULT '',
    ADD COLUMN close_reason VARCHAR(64) NOT NULL DEFAULT '',
    ADD COLUMN version      BIGINT NOT NULL DEFAULT 1,
    ADD COLUMN deleted      BOOLEAN NOT NULL DEFAULT false,
    ADD COLUMN pay_deadline TIMESTAMPTZ,
    ADD COLUMN updated_at   TIMESTAMPTZ NOT NULL DEFAULT now(),
    ADD CONSTRAINT orders_status_known CHECK (status BETWEEN 0 AND 5),
    ADD CONSTRAINT orders_instance_has_product CHECK (order_type <> 'INSTANCE' OR product_id IS NOT NULL),
    ADD CONSTRAINT orders_paid_before_completed CHECK (completed_at IS NULL OR (paid_at <= completed_at) IS TRUE);
COMMENT ON COLUMN orders.status IS '0 PENDING, 1 PAID, 2 CANCELLED, 3 COMPLETED, 4 SHIPPED, 5 REFUNDING';
COMMENT ON COLUMN orders.price IS 'Unit price when the order was made, fen';
COMMENT ON COLUMN orders.request_id IS 'Idempotency key of the caller: repeating a request creates no second order';

CREATE UNIQUE INDEX uk_orders_user_request ON orders (user_id, request_id) WHERE request_id IS NOT NULL;
CREATE INDEX idx_orders_user_created ON orders (user_id, created_at DESC, id DESC);
CREATE INDEX idx_orders_sale_user ON orders (sale_id, user_id) WHERE sale_id IS NOT NULL;
CREATE INDEX idx_orders_pay_deadline ON orders (pay_deadline) WHERE status = 0;

CREATE TABLE order_events (
    order_id    BIGINT NOT NULL,
    version     BIGINT NOT NULL,
    from_status SMALLINT,
    to_status   SMALLINT NOT NULL,
    actor       VARCHAR(20) NOT NULL,
    reason      VARCHAR(255) NOT NULL DEFAULT '',
    at          TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (order_id, version)
);
COMMENT ON TABLE order_events IS 'One row for each change of an order''s status, written in the same transaction. version is the version of the order after the change. Written by: product.';

CREATE TABLE payments (
    id         BIGINT PRIMARY KEY,
    order_id   BIGINT NOT NULL REFERENCES orders (id),
    provider   VARCHAR(32) NOT NULL,
    event_id   VARCHAR(64) NOT NULL,
    amount     BIGINT NOT NULL CHECK (amount >= 0),
    outcome    VARCHAR(10) NOT NULL CHECK (outcome IN ('APPLIED', 'REFUNDED')),
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    UNIQUE (provider, event_id)
);
CREATE INDEX idx_payments_order_id ON payments (order_id);
COMMENT ON TABLE payments IS 'Received payments, one row for each event of a provider. APPLIED: it paid the order. REFUNDED: it is refunded. Written by: product.';

CREATE TABLE refunds (
    id         BIGINT PRIMARY KEY,
    order_id   BIGINT NOT NULL REFERENCES orders (id),
    payment_id BIGINT UNIQUE REFERENCES payments (id),
    amount     BIGINT NOT NULL CHECK (amount >= 0),
    reason     VARCHAR(255) NOT NULL,
    status     VARCHAR(10) NOT NULL DEFAULT 'PENDING' CHECK (status IN ('PENDING', 'DONE', 'REFUSED')),
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    done_at    TIMESTAMPTZ
);
CREATE INDEX idx_refunds_order_id ON refunds (order_id);
COMMENT ON TABLE refunds IS 'Refunds. Written by: product.';
