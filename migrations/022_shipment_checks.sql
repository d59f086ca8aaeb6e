-- no transaction
-- The rules of shipped orders, checked on the rows that exist, and the orders that are to be confirmed automatically.

ALTER TABLE orders VALIDATE CONSTRAINT orders_shipped_to_receiver;
ALTER TABLE orders VALIDATE CONSTRAINT orders_shipped_has_deadline;
CREATE INDEX CONCURRENTLY IF NOT EXISTS idx_orders_confirm_deadline ON orders (confirm_deadline) WHERE status = 4;
