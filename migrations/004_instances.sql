-- Creation of instances: the instance requests and the outbox of the product domain, and the jobs of the resource domain.

CREATE TABLE instance_requests (
    instance_id BIGINT PRIMARY KEY,
    product_id  BIGINT NOT NULL,
    user_id     UUID NOT NULL,
    source      VARCHAR(20) NOT NULL,
    source_id   VARCHAR(64) NOT NULL,
    order_id    BIGINT,
    status      VARCHAR(10) NOT NULL DEFAULT 'REQUESTED' CHECK (status IN ('REQUESTED', 'SUCCESS', 'FAILED')),
    reason      VARCHAR(1024) NOT NULL DEFAULT '',
    created_at  TIMESTAMPTZ NOT NULL DEFAULT now(),
    reported_at TIMESTAMPTZ,
    -- A stream id is unique only within its stream, so entries of two products may share one. Hence product_id.
    CONSTRAINT uk_instance_requests_source UNIQUE (source, product_id, source_id)
);
CREATE INDEX idx_instance_requests_order_id ON instance_requests (order_id) WHERE order_id IS NOT NULL;
COMMENT ON TABLE instance_requests IS 'Every instance that the product domain requested, written in one transaction with its outbox row. Written by: product.';

CREATE TABLE outbox (
    id           BIGSERIAL PRIMARY KEY,
    topic        VARCHAR(64) NOT NULL,
    ref_id       BIGINT NOT NULL,
    payload      BYTEA NOT NULL,
    headers      JSONB,
    created_at   TIMESTAMPTZ NOT NULL DEFAULT now(),
    published_at TIMESTAMPTZ,
    attempts     INT NOT NULL DEFAULT 0,
    last_error   VARCHAR(1024)
);
-- Waiting rows only. A reader never asks for "id > last", because a transaction that commits late may have a lower id.
CREATE INDEX idx_outbox_waiting ON outbox (id) WHERE published_at IS NULL;
COMMENT ON TABLE outbox IS 'Events of record, written in the transaction of the fact they report and published afterwards. Written by: product.';
COMMENT ON COLUMN outbox.ref_id IS 'Topic instance.created: the instance id. Topic seckill.return: the order id';
COMMENT ON COLUMN outbox.headers IS 'Trace context, sent with the event';

CREATE TABLE dead_letters (
    id          BIGSERIAL PRIMARY KEY,
    origin      VARCHAR(128) NOT NULL,
    message_id  VARCHAR(128) NOT NULL,
    payload     JSONB NOT NULL,
    reason      VARCHAR(1024) NOT NULL,
    created_at  TIMESTAMPTZ NOT NULL DEFAULT now(),
    resolved_at TIMESTAMPTZ,
    UNIQUE (origin, message_id)
);
COMMENT ON TABLE dead_letters IS 'Stream entries that can never become an order, stored in full with the reason. Written by: product.';

ALTER TABLE instance_logs
    ADD COLUMN order_id        BIGINT,
    ADD COLUMN name            VARCHAR(64) NOT NULL DEFAULT '',
    ADD COLUMN cpus            INT NOT NULL DEFAULT 0,
    ADD COLUMN memory_mb       INT NOT NULL DEFAULT 0,
    ADD COLUMN gpu             INT NOT NULL DEFAULT 0,
    ADD COLUMN image           VARCHAR(255) NOT NULL DEFAULT '',
    ADD COLUMN reason          VARCHAR(1024) NOT NULL DEFAULT '',
    ADD COLUMN attempts        INT NOT NULL DEFAULT 0,
    ADD COLUMN next_attempt_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    ADD COLUMN reported_at     TIMESTAMPTZ,
    ADD COLUMN headers         JSONB;
CREATE UNIQUE INDEX uk_instance_logs_source ON instance_logs (source, product_id, source_id);
-- The workers look for jobs to run, and for results that have not been reported yet.
CREATE INDEX idx_instance_logs_due ON instance_logs (next_attempt_at) WHERE reported_at IS NULL;
COMMENT ON COLUMN instance_logs.next_attempt_at IS 'When the job may be claimed next: the wait after a failed attempt, or the end of the lease of the worker that runs it';

CREATE TABLE simulated_instances (
    name        VARCHAR(64) PRIMARY KEY,
    instance_id BIGINT NOT NULL UNIQUE,
    user_id     UUID NOT NULL,
    product_id  BIGINT NOT NULL,
    cpus        INT NOT NULL,
    memory_mb   INT NOT NULL,
    gpu         INT NOT NULL,
    image       VARCHAR(255) NOT NULL,
    created_at  TIMESTAMPTZ NOT NULL DEFAULT now()
);
COMMENT ON TABLE simulated_instances IS 'Instances that the simulator created instead of a cluster. Written by: resource.';

CREATE TABLE resource_dead_letters (
    id         BIGSERIAL PRIMARY KEY,
    queue      VARCHAR(128) NOT NULL,
    message_id VARCHAR(128) NOT NULL,
    payload    BYTEA NOT NULL,
    reason     VARCHAR(1024) NOT NULL,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    UNIQUE (queue, message_id)
);
COMMENT ON TABLE resource_dead_letters IS 'Queue messages that can never become an instance, stored in full with the reason. message_id is the SHA-256 of the payload. Written by: resource.';
