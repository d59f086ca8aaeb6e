-- no transaction
-- Refunds that wait are counted every few seconds; those that are over are many, and are not read for it.
CREATE INDEX CONCURRENTLY IF NOT EXISTS idx_refunds_open ON refunds (status) WHERE status IN ('REQUESTED', 'APPROVED', 'FAILED');
