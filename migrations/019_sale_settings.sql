-- What Redis has to be told of a sale is recorded with the decision, so that it can be repeated until it is known there.

ALTER TABLE sales
    ADD COLUMN settings_version BIGINT NOT NULL DEFAULT 1,
    ADD COLUMN admission_closed_at TIMESTAMPTZ;
COMMENT ON COLUMN sales.settings_version IS 'Counts changes of default_limit, admit_rate and vip_limits; Redis has the last one that it was told of';
COMMENT ON COLUMN sales.admission_closed_at IS 'When Redis was told that the sale is closed';

ALTER TABLE vip_limits ADD COLUMN settings_version BIGINT NOT NULL DEFAULT 1;
COMMENT ON COLUMN vip_limits.settings_version IS 'The sale''s when this limit was set last';

-- What changed since the version that Redis has.
CREATE INDEX idx_vip_limits_settings_version ON vip_limits (sale_id, settings_version);
-- Closed sales that Redis was not told of, and those that it was told of lately.
CREATE INDEX idx_sales_to_confirm_closed ON sales (id) WHERE status = 2 AND epoch > 0 AND admission_closed_at IS NULL;
CREATE INDEX idx_sales_admission_closed_at ON sales (admission_closed_at) WHERE admission_closed_at IS NOT NULL;
