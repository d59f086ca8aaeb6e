-- A sale may be split into segments, each with a part of its units in Redis.

ALTER TABLE sales ADD COLUMN segments SMALLINT NOT NULL DEFAULT 1;
ALTER TABLE sales ADD CONSTRAINT sales_segments_in_bounds CHECK (segments BETWEEN 1 AND 64) NOT VALID;
COMMENT ON COLUMN sales.segments IS 'Parts that its units, its stream and its buyers in Redis are split into; fixed when the sale is created. Its orders know nothing of them';
COMMENT ON COLUMN stream_inbox.stream_id IS 'Id of the entry in its stream; an entry of segment k > 0 has -k behind it';
