-- What a list of orders and statistics by time are read from.

-- One index of a user's orders in place of two: newest first as lists show them, with what a count of them asks, so that
-- the count reads no row. It extends the index of document 000 and keeps its name.
DROP INDEX idx_orders_user_id;
DROP INDEX idx_orders_user_created;
CREATE INDEX idx_orders_user_id ON orders (user_id, created_at DESC, id DESC) INCLUDE (status, order_type, deleted);

-- Orders lie in the table in the order of their creation, nearly, so a summary of each 32 pages finds those of a time,
-- and costs next to nothing to keep.
CREATE INDEX idx_orders_created_at ON orders USING brin (created_at) WITH (pages_per_range = 32, autosummarize = on);
