-- One trace from a buyer's click to the instance: where a job stands in the trace of its order.

ALTER TABLE instance_logs ADD COLUMN trace VARCHAR(64);
COMMENT ON COLUMN instance_logs.trace IS 'W3C traceparent of the message that asked for the instance; NULL where it is not traced';
