-- Finding instance requests whose message was lost, by their age.

-- Both tables hold their rows almost in the order of their creation, so a summary of each 32 pages finds those of a period,
-- costs next to nothing to maintain, and leaves updates in their page (HOT).
CREATE INDEX idx_instance_requests_created_at ON instance_requests
    USING brin (created_at) WITH (pages_per_range = 32, autosummarize = on);
CREATE INDEX idx_outbox_created_at ON outbox
    USING brin (created_at) WITH (pages_per_range = 32, autosummarize = on);
