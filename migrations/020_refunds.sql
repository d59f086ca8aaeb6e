-- Refunds that are paid out: who asked, where they stand, and the lease of the worker that pays.

ALTER TABLE refunds
    ADD COLUMN user_id         UUID,
    ADD COLUMN kind            VARCHAR(10) NOT NULL DEFAULT 'WHOLE' CHECK (kind IN ('WHOLE', 'PAYMENT')),
    ADD COLUMN order_status    SMALLINT CHECK (order_status BETWEEN 0 AND 5),
    ADD COLUMN requested_by    VARCHAR(20) NOT NULL DEFAULT 'payment',
    ADD COLUMN decision        VARCHAR(255) NOT NULL DEFAULT '',
    ADD COLUMN attempts        INT NOT NULL DEFAULT 0,
    ADD COLUMN next_attempt_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    ADD COLUMN last_error      VARCHAR(1024) NOT NULL DEFAULT '',
    DROP CONSTRAINT refunds_status_check,
    ALTER COLUMN status SET DEFAULT 'APPROVED';
UPDATE refunds r SET user_id = o.user_id, status = CASE r.status WHEN 'PENDING' THEN 'APPROVED' ELSE r.status END,
    kind = CASE WHEN p.outcome = 'REFUNDED' THEN 'PAYMENT' ELSE 'WHOLE' END
FROM orders o, refunds r2 LEFT JOIN payments p ON p.id = r2.payment_id
WHERE r2.id = r.id AND o.id = r.order_id;
ALTER TABLE refunds
    ALTER COLUMN user_id SET NOT NULL,
    ADD CONSTRAINT refunds_status_known CHECK (status IN ('REQUESTED', 'APPROVED', 'DONE', 'REFUSED', 'FAILED')),
    ADD CONSTRAINT refunds_done_has_time CHECK ((status = 'DONE') = (done_at IS NOT NULL));
CREATE INDEX idx_refunds_due ON refunds (next_attempt_at) WHERE status = 'APPROVED';
CREATE INDEX idx_refunds_user_id ON refunds (user_id, id DESC);
-- An order is refunded as a whole once.
CREATE UNIQUE INDEX uk_refunds_order_whole ON refunds (order_id) WHERE kind = 'WHOLE' AND status <> 'REFUSED';
COMMENT ON COLUMN refunds.kind IS 'WHOLE: what the order cost; the order ends as CANCELLED. PAYMENT: a payment that paid nothing; the order stays as it is';
COMMENT ON COLUMN refunds.order_status IS 'WHOLE: the order''s status before the refund';
COMMENT ON COLUMN refunds.next_attempt_at IS 'When the payout may be tried (again): the lease of the worker that has it, and the wait after a failure';

ALTER TABLE stock_moves
    DROP CONSTRAINT stock_moves_kind,
    ADD CONSTRAINT stock_moves_kind CHECK (CASE kind
        WHEN 'ADJUST' THEN order_id IS NULL AND sale_id IS NULL AND abs(stock_delta) = units AND lock_delta = 0
        WHEN 'SALE_HOLD' THEN order_id IS NULL AND sale_id IS NOT NULL AND stock_delta = 0 AND lock_delta = units
        WHEN 'SALE_RETURN' THEN order_id IS NULL AND sale_id IS NOT NULL AND stock_delta = 0 AND lock_delta = -units
        WHEN 'HOLD' THEN order_id IS NOT NULL AND stock_delta = 0 AND lock_delta IN (0, units)
        WHEN 'DEDUCT' THEN order_id IS NOT NULL AND stock_delta = -units AND lock_delta = -units
        WHEN 'RETURN' THEN order_id IS NOT NULL AND stock_delta = 0 AND lock_delta IN (0, -units)
        WHEN 'RESTOCK' THEN order_id IS NOT NULL AND stock_delta = units AND lock_delta IN (0, units)
        ELSE false END);
COMMENT ON COLUMN stock_moves.kind IS 'ADJUST by an operator; SALE_HOLD, SALE_RETURN: a sale takes its units, and gives back the unsold ones; HOLD, DEDUCT, RETURN: an order waits for payment, is paid, is cancelled; RESTOCK: the units of a paid order come back';

-- What the payment simulator paid back, once for each key.
CREATE TABLE simulated_refunds (
    refund_id  BIGINT PRIMARY KEY,
    order_id   BIGINT NOT NULL,
    event_id   VARCHAR(64) NOT NULL,
    amount     BIGINT NOT NULL CHECK (amount >= 0),
    calls      INT NOT NULL DEFAULT 1,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
COMMENT ON TABLE simulated_refunds IS 'What the payment simulator paid back in place of a provider; calls counts how often it was asked. Written by: product.';
GRANT SELECT, INSERT, UPDATE ON simulated_refunds TO kaimai_product;

CREATE OR REPLACE VIEW seckill_records AS
SELECT i.item_id || '-' || i.stream_id AS seckill_id,
       i.order_id,
       i.user_id,
       i.item_id,
       i.quantity,
       CASE
           WHEN i.outcome <> 'ORDER' THEN 'REJECTED'
           WHEN o.status = 0 THEN 'AWAIT_PAY'
           WHEN o.status = 2 AND o.close_reason = 'PAY_TIMEOUT' THEN 'TIMED_OUT'
           WHEN o.status = 2 AND o.close_reason = 'REFUNDED' THEN 'REFUNDED'
           WHEN o.status = 2 THEN 'CANCELLED'
           ELSE 'PAID'
       END AS status,
       CASE WHEN i.outcome = 'ORDER' THEN o.close_reason ELSE i.reason END AS reason,
       i.created_at,
       coalesce(o.updated_at, i.created_at) AS updated_at
FROM stream_inbox i
LEFT JOIN orders o ON o.id = i.order_id;
