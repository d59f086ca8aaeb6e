-- Leases for the outbox relay, and what the resource domain's workers need to know of a job.

-- Claims change neither an indexed column nor an index's predicate, so that they stay in the row's page (HOT).
ALTER TABLE outbox ADD COLUMN next_attempt_at TIMESTAMPTZ NOT NULL DEFAULT now();
COMMENT ON COLUMN outbox.next_attempt_at IS 'When the row may be picked up (again): the lease of the relay that has it, and the wait after a failure';
DROP INDEX idx_outbox_waiting;
-- By topic, because each topic has a relay loop of its own: one whose destination is away must not slow the others.
CREATE INDEX idx_outbox_waiting ON outbox (topic, id) WHERE published_at IS NULL;
-- The index's head is dead entries after every burst; a queue table cannot wait for a fifth of it to change.
ALTER TABLE outbox SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.05);

ALTER TABLE instance_logs
    ADD COLUMN report_attempts INT NOT NULL DEFAULT 0,
    ADD COLUMN report_error    VARCHAR(1024) NOT NULL DEFAULT '';
COMMENT ON COLUMN instance_logs.attempts IS 'Creations that failed and could be tried again';
COMMENT ON COLUMN instance_logs.reported_at IS 'When the product domain gave its last word on the outcome';
COMMENT ON COLUMN instance_logs.report_error IS 'Why the last report was not taken; with reported_at set, it never will be';
DROP INDEX idx_instance_logs_due;
CREATE INDEX idx_instance_logs_to_create ON instance_logs (id) WHERE status = 'PROCESSING';
CREATE INDEX idx_instance_logs_to_report ON instance_logs (id) WHERE status <> 'PROCESSING' AND reported_at IS NULL;
-- The first document's index, made unique: one request, one instance.
DROP INDEX idx_instance_logs_instance_id;
CREATE UNIQUE INDEX idx_instance_logs_instance_id ON instance_logs (instance_id);
ALTER TABLE instance_logs SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.05);
