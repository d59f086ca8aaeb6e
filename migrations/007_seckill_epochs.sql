-- The sale, and the epoch of it, under which an entry was settled.

ALTER TABLE sales ADD COLUMN first_epoch BIGINT NOT NULL DEFAULT 0;
UPDATE sales SET first_epoch = epoch;
ALTER TABLE sales ADD CONSTRAINT sales_epochs_ordered CHECK (first_epoch <= epoch);
COMMENT ON COLUMN sales.first_epoch IS 'Epoch of the first opening. The epochs of an item''s sales do not overlap, so the epoch of an entry identifies its sale';
COMMENT ON COLUMN sales.epoch IS 'Epoch of the last opening. What Redis holds under another epoch is void';

ALTER TABLE stream_inbox
    ADD COLUMN sale_id BIGINT,
    ADD COLUMN epoch   BIGINT;
COMMENT ON COLUMN stream_inbox.sale_id IS 'The sale whose units the entry requested. NULL for a direct purchase';
COMMENT ON COLUMN stream_inbox.epoch IS 'Epoch of the sale when the outcome was committed';
