-- no transaction
-- idx_orders_user_id has all columns that document 003 lists orders with, so that a list reads no row of the table. They
-- change only together with the status, which was in the index before.

CREATE INDEX CONCURRENTLY IF NOT EXISTS idx_orders_user_list ON orders (user_id, created_at DESC, id DESC)
    INCLUDE (status, order_type, deleted, product_name, price, total_amount, content_type, goods_type, paid_at);
DROP INDEX CONCURRENTLY IF EXISTS idx_orders_user_id;
