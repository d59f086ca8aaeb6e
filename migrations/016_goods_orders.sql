-- Ordinary orders of goods: amounts in parts, the receiver, and a snapshot of the lines on the order itself.

ALTER TABLE orders
    ADD COLUMN freight_amount      BIGINT NOT NULL DEFAULT 0 CHECK (freight_amount >= 0),
    ADD COLUMN promotion_amount    BIGINT NOT NULL DEFAULT 0 CHECK (promotion_amount >= 0),
    -- The parts add up by construction, also for orders whose writer knows nothing of parts.
    ADD COLUMN total_amount        BIGINT NOT NULL GENERATED ALWAYS AS (amount - freight_amount + promotion_amount) STORED
        CHECK (total_amount >= 0),
    ADD COLUMN receiver_json       JSONB CHECK (jsonb_typeof(receiver_json) = 'object'),
    ADD COLUMN items               JSONB CHECK (jsonb_typeof(items) = 'array'),
    ADD COLUMN request_fingerprint VARCHAR(64);
COMMENT ON COLUMN orders.amount IS 'Amount to pay, fen: total_amount + freight_amount - promotion_amount';
COMMENT ON COLUMN orders.total_amount IS 'Sum of list price × quantity, fen';
COMMENT ON COLUMN orders.promotion_amount IS 'All discounts together, fen';
COMMENT ON COLUMN orders.receiver_json IS 'GOODS: who receives the goods and where: name, phone, region, address';
COMMENT ON COLUMN orders.items IS 'GOODS: snapshot of the lines, so that lists read no other table; order_items has the same lines as rows';
COMMENT ON COLUMN orders.request_fingerprint IS 'SHA-256 of what request_id asked for, so that the id cannot stand for something else';

ALTER TABLE order_items
    ADD COLUMN order_no         VARCHAR(64) NOT NULL GENERATED ALWAYS AS ('ORD' || order_id::text) STORED,
    ADD COLUMN promotion_amount BIGINT NOT NULL DEFAULT 0,
    ADD CONSTRAINT order_items_discount_within_price CHECK (promotion_amount BETWEEN 0 AND total_price);
CREATE INDEX idx_order_items_order_no ON order_items (order_no);
CREATE INDEX idx_order_items_sku_id ON order_items (sku_id, order_id);
COMMENT ON COLUMN order_items.promotion_amount IS 'The line''s share of all discounts of the order, fen';

ALTER TABLE sku ADD COLUMN stock_seq BIGINT NOT NULL DEFAULT 0;
COMMENT ON COLUMN sku.stock_seq IS 'Counts the changes of stock and lock_stock: of two copies of the free units in Redis the higher one is the newer';
