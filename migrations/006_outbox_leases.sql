-- Leases of the outbox relay, and the state that the workers of the resource domain keep for a job.

-- A claim changes neither an indexed column nor the predicate of an index, so that the update stays in its page (HOT).
ALTER TABLE outbox ADD COLUMN next_attempt_at TIMESTAMPTZ NOT NULL DEFAULT now();
COMMENT ON COLUMN outbox.next_attempt_at IS 'When the row may be claimed next: the end of the lease of the relay that has it, or the wait after a failure';
DROP INDEX idx_outbox_waiting;
-- By topic, because each topic has its own relay loop: a destination that is down must not slow the others.
CREATE INDEX idx_outbox_waiting ON outbox (topic, id) WHERE published_at IS NULL;
-- After each burst the index begins with dead entries, so a queue table cannot wait until a fifth of it has changed.
ALTER TABLE outbox SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.05);

ALTER TABLE instance_logs
    ADD COLUMN report_attempts INT NOT NULL DEFAULT 0,
    ADD COLUMN report_error    VARCHAR(1024) NOT NULL DEFAULT '';
COMMENT ON COLUMN instance_logs.attempts IS 'Failed attempts that may be repeated';
COMMENT ON COLUMN instance_logs.reported_at IS 'When the product domain accepted or refused the result for good';
COMMENT ON COLUMN instance_logs.report_error IS 'Why the last report was not accepted. With reported_at set, the refusal is final';
DROP INDEX idx_instance_logs_due;
CREATE INDEX idx_instance_logs_to_create ON instance_logs (id) WHERE status = 'PROCESSING';
CREATE INDEX idx_instance_logs_to_report ON instance_logs (id) WHERE status <> 'PROCESSING' AND reported_at IS NULL;
-- The index of 001, made unique: one request has one instance.
DROP INDEX idx_instance_logs_instance_id;
CREATE UNIQUE INDEX idx_instance_logs_instance_id ON instance_logs (instance_id);
ALTER TABLE instance_logs SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.05);
