-- Flash sales, and the inbox of their Redis streams.

-- Each opening of a sale takes the next epoch. Request numbers start at epoch << 32, so the epoch must stay below 2^31.
CREATE SEQUENCE sale_epoch_seq MAXVALUE 2147483647;

CREATE TABLE sales (
    id             BIGINT PRIMARY KEY,
    item_id        BIGINT NOT NULL,
    name           VARCHAR(128) NOT NULL DEFAULT '',
    status         SMALLINT NOT NULL DEFAULT 0 CHECK (status IN (0, 1, 2)),
    starts_at      TIMESTAMPTZ NOT NULL,
    ends_at        TIMESTAMPTZ,
    total          BIGINT NOT NULL CHECK (total > 0),
    sold           BIGINT NOT NULL DEFAULT 0,
    price          BIGINT NOT NULL CHECK (price >= 0),
    pay_mode       VARCHAR(10) NOT NULL CHECK (pay_mode IN ('PREPAID', 'PAY_LATER')),
    pay_timeout_ms BIGINT NOT NULL CHECK (pay_timeout_ms > 0),
    default_limit  INT NOT NULL CHECK (default_limit > 0),
    epoch          BIGINT NOT NULL DEFAULT 0,
    version        BIGINT NOT NULL DEFAULT 1,
    created_at     TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at     TIMESTAMPTZ NOT NULL DEFAULT now(),
    -- The final guard against overselling, whatever Redis holds.
    CONSTRAINT sales_not_oversold CHECK (sold BETWEEN 0 AND total),
    CHECK (ends_at IS NULL OR ends_at > starts_at)
);
CREATE UNIQUE INDEX uk_sales_item_live ON sales (item_id) WHERE status <> 2;
CREATE INDEX idx_sales_item ON sales (item_id, id DESC);
COMMENT ON TABLE sales IS 'Flash sales. An item has at most one that is not closed. Written by: product.';
COMMENT ON COLUMN sales.status IS '0 SCHEDULED, 1 OPEN, 2 CLOSED';
COMMENT ON COLUMN sales.sold IS 'Units of orders that are not cancelled';

CREATE TABLE stream_inbox (
    item_id    BIGINT NOT NULL,
    stream_id  VARCHAR(41) NOT NULL,
    user_id    UUID,
    quantity   INT,
    outcome    VARCHAR(8) NOT NULL CHECK (outcome IN ('ORDER', 'REJECTED', 'DEAD')),
    order_id   BIGINT,
    reason     VARCHAR(255) NOT NULL DEFAULT '',
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (item_id, stream_id),
    CHECK ((outcome = 'ORDER') = (order_id IS NOT NULL))
);
CREATE INDEX idx_stream_inbox_order_id ON stream_inbox (order_id) WHERE order_id IS NOT NULL;
COMMENT ON TABLE stream_inbox IS 'Every settled stream entry with its one outcome, so that a redelivery changes nothing. Written by: product.';
