-- What retention deleted, and which replica deletes.

CREATE TABLE retention_marks (
    kind           VARCHAR(20) NOT NULL,
    scope          VARCHAR(64) NOT NULL DEFAULT '',
    deleted_before TIMESTAMPTZ NOT NULL,
    rows_deleted   BIGINT NOT NULL CHECK (rows_deleted > 0),
    PRIMARY KEY (kind, scope)
);
COMMENT ON TABLE retention_marks IS 'How many old rows were deleted, written in the transaction that deletes them: the audit counts them as there. Written by: product.';
COMMENT ON COLUMN retention_marks.kind IS 'outbox, order_events, dead_letters; inbox_order, inbox_rejected and inbox_dead are inbox rows by outcome';
COMMENT ON COLUMN retention_marks.scope IS 'The topic of outbox rows, the item id of inbox rows; otherwise empty';
COMMENT ON COLUMN retention_marks.deleted_before IS 'Every deleted row was older. A stream entry of the item that is older and has no row is rejected, since its row may have been deleted';

CREATE TABLE resource_retention_marks (LIKE retention_marks INCLUDING ALL);
COMMENT ON TABLE resource_retention_marks IS 'The same for the resource domain; kind dead_letters. Written by: resource.';

CREATE TABLE retention_leases (
    name   VARCHAR(20) PRIMARY KEY,
    holder VARCHAR(64) NOT NULL,
    until  TIMESTAMPTZ NOT NULL
);
COMMENT ON TABLE retention_leases IS 'The replica that deletes now, or when the next one may. Written by: product.';
CREATE TABLE resource_retention_leases (LIKE retention_leases INCLUDING ALL);
COMMENT ON TABLE resource_retention_leases IS 'The same for the resource domain. Written by: resource.';

GRANT SELECT, INSERT, UPDATE ON retention_marks, retention_leases TO kaimai_product;
GRANT SELECT ON resource_retention_marks TO kaimai_product;
GRANT SELECT, INSERT, UPDATE ON resource_retention_marks, resource_retention_leases TO kaimai_resource;
