-- no transaction
-- The ledger of one sku, newest first.

CREATE INDEX CONCURRENTLY IF NOT EXISTS idx_stock_moves_sku_id ON stock_moves (sku_id, id);
