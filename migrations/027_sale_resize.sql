-- A sale's total may change while it is live: the stock ledger gets a row of a kind of its own for each change.

COMMENT ON COLUMN sales.settings_version IS 'Counts changes of total, ends_at, default_limit, admit_rate and vip_limits; Redis has the last one that it was told of';

ALTER TABLE stock_moves
    DROP CONSTRAINT stock_moves_kind,
    ADD CONSTRAINT stock_moves_kind CHECK (CASE kind
        WHEN 'ADJUST' THEN order_id IS NULL AND sale_id IS NULL AND abs(stock_delta) = units AND lock_delta = 0
        WHEN 'SALE_HOLD' THEN order_id IS NULL AND sale_id IS NOT NULL AND stock_delta = 0 AND lock_delta = units
        WHEN 'SALE_RETURN' THEN order_id IS NULL AND sale_id IS NOT NULL AND stock_delta = 0 AND lock_delta = -units
        WHEN 'SALE_RESIZE' THEN order_id IS NULL AND sale_id IS NOT NULL AND stock_delta = 0 AND abs(lock_delta) = units
        WHEN 'HOLD' THEN order_id IS NOT NULL AND stock_delta = 0 AND lock_delta IN (0, units)
        WHEN 'DEDUCT' THEN order_id IS NOT NULL AND stock_delta = -units AND lock_delta = -units
        WHEN 'RETURN' THEN order_id IS NOT NULL AND stock_delta = 0 AND lock_delta IN (0, -units)
        WHEN 'RESTOCK' THEN order_id IS NOT NULL AND stock_delta = units AND lock_delta IN (0, units)
        ELSE false END) NOT VALID;
COMMENT ON COLUMN stock_moves.kind IS 'ADJUST by an operator; SALE_HOLD, SALE_RETURN, SALE_RESIZE: a sale takes its units, gives back the unsold ones, changes its total; HOLD, DEDUCT, RETURN: an order waits for payment, is paid, is cancelled; RESTOCK: the units of a paid order come back';
