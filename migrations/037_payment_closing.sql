-- Payments that the provider must close, because their order was cancelled or costs another amount now.

-- Processes of the previous version ignore the column: they look such payments up, as before.
ALTER TABLE payment_sessions ADD COLUMN close_requested_at TIMESTAMPTZ;
COMMENT ON COLUMN payment_sessions.close_requested_at IS 'Since when the provider must close the payment. NULL: it may be paid';
