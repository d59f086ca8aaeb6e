-- no transaction
-- One PAYMENT refund for a payment, one refund for a request id, and one RESTOCK of a sku for each refund.

CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS uk_refunds_payment ON refunds (payment_id) WHERE kind = 'PAYMENT';
CREATE INDEX CONCURRENTLY IF NOT EXISTS idx_refunds_payment_id ON refunds (payment_id);
CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS uk_refunds_order_request ON refunds (order_id, request_id)
    WHERE request_id IS NOT NULL;
CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS uk_stock_moves_refund ON stock_moves (refund_id, sku_id)
    WHERE refund_id IS NOT NULL;
CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS uk_stock_moves_order_kind ON stock_moves (order_id, sku_id, kind)
    WHERE order_id IS NOT NULL AND refund_id IS NULL;
DROP INDEX CONCURRENTLY IF EXISTS uk_stock_moves_order;
ALTER TABLE orders VALIDATE CONSTRAINT orders_refunded_within_amount;
ALTER TABLE orders VALIDATE CONSTRAINT orders_kept_within_quantity;
ALTER TABLE order_items VALIDATE CONSTRAINT order_items_refunded_once;
ALTER TABLE refunds VALIDATE CONSTRAINT refunds_kind_known;
ALTER TABLE refunds VALIDATE CONSTRAINT refunds_lines_of_kind;
ALTER TABLE refunds VALIDATE CONSTRAINT refunds_restocked_units_returned;
