-- Purchase limits of single users, and the records of flash-sale purchases.

CREATE TABLE vip_limits (
    sale_id    BIGINT NOT NULL REFERENCES sales (id),
    user_id    UUID NOT NULL,
    units      INT NOT NULL CHECK (units >= 0),
    version    BIGINT NOT NULL DEFAULT 1,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (sale_id, user_id)
);
COMMENT ON TABLE vip_limits IS 'Limits of single users of a sale, which replace its default limit. Written by: product.';
COMMENT ON COLUMN sales.version IS 'Counts changes of the sale itself, not its orders';

-- Every read of a sold-out sale asks whether units may still come back.
CREATE INDEX idx_orders_sale_unpaid ON orders (sale_id) WHERE status = 0 AND sale_id IS NOT NULL;

-- An entry that waits in the stream has no row yet. Its status is QUEUED.
CREATE VIEW seckill_records AS
SELECT i.item_id || '-' || i.stream_id AS seckill_id,
       i.order_id,
       i.user_id,
       i.item_id,
       i.quantity,
       CASE
           WHEN i.outcome <> 'ORDER' THEN 'REJECTED'
           WHEN o.status = 0 THEN 'AWAIT_PAY'
           WHEN o.status = 2 AND o.close_reason = 'PAY_TIMEOUT' THEN 'TIMED_OUT'
           WHEN o.status = 2 THEN 'CANCELLED'
           ELSE 'PAID'
       END AS status,
       CASE WHEN i.outcome = 'ORDER' THEN o.close_reason ELSE i.reason END AS reason,
       i.created_at,
       coalesce(o.updated_at, i.created_at) AS updated_at
FROM stream_inbox i
LEFT JOIN orders o ON o.id = i.order_id;
COMMENT ON VIEW seckill_records IS 'Every settled flash-sale purchase with its status. A view, so that it cannot differ from the order.';

GRANT SELECT, INSERT, UPDATE, DELETE ON vip_limits TO kaimai_product;
GRANT SELECT ON seckill_records TO kaimai_product;
