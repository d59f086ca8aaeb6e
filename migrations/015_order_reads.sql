-- Indexes for lists of orders and for statistics by time.

-- One index of a user's orders instead of two: newest first as lists show them, with the columns that a count filters by,
-- so that counting reads no row. The index of 001 is a prefix of it and gives it its name.
DROP INDEX idx_orders_user_id;
DROP INDEX idx_orders_user_created;
CREATE INDEX idx_orders_user_id ON orders (user_id, created_at DESC, id DESC) INCLUDE (status, order_type, deleted);

-- The table holds orders almost in the order of their creation, so a summary of each 32 pages finds those of a period and
-- costs next to nothing to maintain.
CREATE INDEX idx_orders_created_at ON orders USING brin (created_at) WITH (pages_per_range = 32, autosummarize = on);
