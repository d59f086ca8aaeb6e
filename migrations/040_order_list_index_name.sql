-- The name of the index that the migration before this one has replaced. Only the catalog changes.

ALTER INDEX idx_orders_user_list RENAME TO idx_orders_user_id;
