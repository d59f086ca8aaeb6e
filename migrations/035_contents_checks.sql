-- no transaction
-- The rules of orders of contents, checked on the rows that exist, and their request numbers.

ALTER TABLE orders VALIDATE CONSTRAINT orders_content_id_fkey;
ALTER TABLE orders VALIDATE CONSTRAINT orders_content_of_type;
ALTER TABLE orders VALIDATE CONSTRAINT orders_content_alone;
ALTER TABLE orders VALIDATE CONSTRAINT orders_content_days;
ALTER TABLE sales VALIDATE CONSTRAINT sales_order_type_check;
CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS uk_orders_content_req ON orders (content_id, req_id) WHERE content_id IS NOT NULL;
