-- The life of an instance after its creation: its state, and its removal on request.

ALTER TABLE instance_logs
    ADD COLUMN state        VARCHAR(10) NOT NULL DEFAULT 'RUNNING',
    ADD COLUMN state_reason VARCHAR(1024) NOT NULL DEFAULT '',
    ADD COLUMN state_since  TIMESTAMPTZ,
    ADD COLUMN address      VARCHAR(64) NOT NULL DEFAULT '';
ALTER TABLE instance_logs
    ADD CONSTRAINT instance_logs_state CHECK (state IN ('RUNNING', 'DOWN', 'LOST')) NOT VALID;
COMMENT ON COLUMN instance_logs.state IS 'Of a SUCCESS: RUNNING, DOWN (exists, but is not ready), LOST (does not exist although it was not removed)';
COMMENT ON COLUMN instance_logs.state_since IS 'When state, state_reason or address changed last; NULL: not since the creation';

-- A table of its own, because a removal may be requested before the message of the creation arrives.
CREATE TABLE instance_removals (
    instance_id     BIGINT PRIMARY KEY,
    reason          VARCHAR(255) NOT NULL,
    requested_at    TIMESTAMPTZ NOT NULL DEFAULT now(),
    removed_at      TIMESTAMPTZ,
    attempts        INT NOT NULL DEFAULT 0,
    next_attempt_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    last_error      VARCHAR(1024) NOT NULL DEFAULT ''
);
CREATE INDEX idx_instance_removals_due ON instance_removals (next_attempt_at) WHERE removed_at IS NULL;
COMMENT ON TABLE instance_removals IS 'Instances that must not exist any more: deleted by their owner or an operator, or refunded. Written by: resource.';

GRANT SELECT ON instance_removals TO kaimai_product;
GRANT SELECT, INSERT, UPDATE, DELETE ON instance_removals TO kaimai_resource;
-- The reconciler removes an instance only if the product domain does not know it either.
GRANT SELECT ON instance_requests TO kaimai_resource;
