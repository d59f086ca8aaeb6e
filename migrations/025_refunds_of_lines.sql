-- Refunds of order lines, decided by operators once the goods are shipped, and the return of shipped units. Orders that
-- earlier versions refunded as a whole keep refunded_amount 0 and kept_quantity NULL.

ALTER TABLE orders
    ADD COLUMN refunded_amount BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN kept_quantity   INT;
ALTER TABLE orders
    ADD CONSTRAINT orders_refunded_within_amount CHECK (refunded_amount BETWEEN 0 AND amount) NOT VALID,
    ADD CONSTRAINT orders_kept_within_quantity CHECK (kept_quantity BETWEEN 0 AND quantity) NOT VALID;
COMMENT ON COLUMN orders.refunded_amount IS 'What went back by refunds of the order or its lines, fen';
COMMENT ON COLUMN orders.kept_quantity IS 'Units that refunds have left with the buyer. NULL: no refund has changed them. They count as sold, also if the order is cancelled and its shipped units did not come back';

ALTER TABLE order_items ADD COLUMN refunded_quantity INT NOT NULL DEFAULT 0;
-- The final guard against refunding a unit twice.
ALTER TABLE order_items
    ADD CONSTRAINT order_items_refunded_once CHECK (refunded_quantity BETWEEN 0 AND quantity) NOT VALID;
COMMENT ON COLUMN order_items.refunded_quantity IS 'Units in LINES refunds that were not refused';

ALTER TABLE refunds
    ADD COLUMN lines               JSONB,
    ADD COLUMN request_id          VARCHAR(64),
    ADD COLUMN request_fingerprint VARCHAR(64),
    ADD COLUMN returned_at         TIMESTAMPTZ,
    ADD COLUMN restocked           BOOLEAN NOT NULL DEFAULT false;
ALTER TABLE refunds
    DROP CONSTRAINT refunds_kind_check,
    -- Several refunds may share the payment of their order.
    DROP CONSTRAINT refunds_payment_id_key,
    ADD CONSTRAINT refunds_kind_known CHECK (kind IN ('WHOLE', 'LINES', 'PAYMENT')) NOT VALID,
    ADD CONSTRAINT refunds_lines_of_kind
        CHECK ((kind = 'LINES') = (lines IS NOT NULL) AND jsonb_typeof(lines) = 'array') NOT VALID,
    ADD CONSTRAINT refunds_restocked_units_returned CHECK (returned_at IS NOT NULL OR NOT restocked) NOT VALID;
COMMENT ON COLUMN refunds.kind IS 'WHOLE: what is left of the order''s amount; the order ends as CANCELLED. LINES: units of its lines; the order keeps its status. PAYMENT: a payment that paid nothing; the order stays as it is';
COMMENT ON COLUMN refunds.lines IS 'LINES: sku_id, quantity and amount of each line';
COMMENT ON COLUMN refunds.order_status IS 'WHOLE and LINES: the order''s status when the refund was requested. Unless it is PAID, the units were shipped';
COMMENT ON COLUMN refunds.request_id IS 'Idempotency key of the request';
COMMENT ON COLUMN refunds.request_fingerprint IS 'SHA-256 of what request_id asked for';
COMMENT ON COLUMN refunds.returned_at IS 'When the shipped units came back';
COMMENT ON COLUMN refunds.restocked IS 'Whether the units that came back are on sale again';

ALTER TABLE stock_moves ADD COLUMN refund_id BIGINT;
COMMENT ON COLUMN stock_moves.refund_id IS 'RESTOCK: the refund whose units they are';
