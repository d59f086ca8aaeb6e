-- no transaction
ALTER TABLE stock_moves VALIDATE CONSTRAINT stock_moves_kind;
-- A sale takes and gives back its units once, and may change its total often.
CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS uk_stock_moves_sale_once ON stock_moves (sale_id, kind)
    WHERE sale_id IS NOT NULL AND order_id IS NULL AND kind <> 'SALE_RESIZE';
DROP INDEX CONCURRENTLY IF EXISTS uk_stock_moves_sale;
