-- Which sale and which of its openings an entry was settled under.

ALTER TABLE sales ADD COLUMN first_epoch BIGINT NOT NULL DEFAULT 0;
UPDATE sales SET first_epoch = epoch;
ALTER TABLE sales ADD CONSTRAINT sales_epochs_ordered CHECK (first_epoch <= epoch);
COMMENT ON COLUMN sales.first_epoch IS 'Of the first opening; the epochs of an item''s sales do not overlap, so an entry''s epoch names its sale';
COMMENT ON COLUMN sales.epoch IS 'Of the last opening; what admission holds under another is void';

ALTER TABLE stream_inbox
    ADD COLUMN sale_id BIGINT,
    ADD COLUMN epoch   BIGINT;
COMMENT ON COLUMN stream_inbox.sale_id IS 'The sale whose units the entry asked for; none for a direct purchase';
COMMENT ON COLUMN stream_inbox.epoch IS 'The sale''s when the outcome was committed';
