-- One trace from the purchase to the instance: the position of a job in the trace of its order.

ALTER TABLE instance_logs ADD COLUMN trace VARCHAR(64);
COMMENT ON COLUMN instance_logs.trace IS 'W3C traceparent of the message that requested the instance. NULL if it is not traced';
