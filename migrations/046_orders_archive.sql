-- An archive of finished orders. Its tables inherit from those of the orders, so that every statement finds an order in either,
-- also those of the previous version. Nothing moves there until order.archive_after is set.

CREATE TABLE orders_archive (
    PRIMARY KEY (id),
    -- Statements about other statuses leave the archive out when they are planned.
    CONSTRAINT orders_archive_finished CHECK (status IN (2, 3))
) INHERITS (orders);
COMMENT ON TABLE orders_archive IS 'Orders that were finished long ago. Reading orders reads them too. Written by: product.';
CREATE INDEX idx_orders_archive_user_id ON orders_archive (user_id, created_at DESC, id DESC)
    INCLUDE (status, order_type, deleted, product_name, price, total_amount, content_type, goods_type, paid_at);
CREATE INDEX idx_orders_archive_created_at ON orders_archive USING brin (created_at) WITH (pages_per_range = 32, autosummarize = on);
CREATE INDEX idx_orders_archive_sale_user ON orders_archive (sale_id, user_id) WHERE sale_id IS NOT NULL;
CREATE UNIQUE INDEX uk_orders_archive_user_request ON orders_archive (user_id, request_id) WHERE request_id IS NOT NULL;
CREATE UNIQUE INDEX uk_orders_archive_product_req ON orders_archive (product_id, req_id) WHERE product_id IS NOT NULL;
CREATE UNIQUE INDEX uk_orders_archive_sku_req ON orders_archive (sku_id, req_id) WHERE sku_id IS NOT NULL;
CREATE UNIQUE INDEX uk_orders_archive_content_req ON orders_archive (content_id, req_id) WHERE content_id IS NOT NULL;

CREATE TABLE order_items_archive (PRIMARY KEY (order_id, sku_id)) INHERITS (order_items);
COMMENT ON TABLE order_items_archive IS 'Lines of the orders in orders_archive. Written by: product.';
CREATE INDEX idx_order_items_archive_order_no ON order_items_archive (order_no);
CREATE INDEX idx_order_items_archive_sku_id ON order_items_archive (sku_id, order_id);

CREATE TABLE order_events_archive (PRIMARY KEY (order_id, version)) INHERITS (order_events);
COMMENT ON TABLE order_events_archive IS 'Events of the orders in orders_archive. Written by: product.';

-- By name, with the columns that there are when it runs: a process of an earlier version must not drop a later column.
CREATE FUNCTION move_order_rows(ids BIGINT[], id_column NAME, source REGCLASS, target REGCLASS) RETURNS BIGINT
LANGUAGE plpgsql AS $$
DECLARE
    names TEXT := (SELECT string_agg(quote_ident(attname), ', ') FROM pg_attribute
        WHERE attrelid = source AND attnum > 0 AND NOT attisdropped AND attgenerated = '');
    moved BIGINT;
BEGIN
    EXECUTE format('WITH gone AS (DELETE FROM ONLY %1$s WHERE %2$I = ANY ($1) RETURNING %3$s) INSERT INTO %4$s (%3$s) SELECT * FROM gone',
        source, id_column, names, target) USING ids;
    GET DIAGNOSTICS moved = ROW_COUNT;
    RETURN moved;
END $$;
REVOKE EXECUTE ON FUNCTION move_order_rows FROM PUBLIC;

-- The rights of its owner, because the product role may not delete orders.
CREATE FUNCTION archive_orders(ids BIGINT[], finished_before TIMESTAMPTZ) RETURNS BIGINT
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    -- An order that another transaction is changing, or moving, is left to it.
    locked BIGINT[] := ARRAY(SELECT id FROM ONLY orders
        WHERE id = ANY (ids) AND status IN (2, 3) AND updated_at < finished_before ORDER BY id FOR UPDATE SKIP LOCKED);
BEGIN
    PERFORM move_order_rows(locked, 'order_id', 'order_items', 'order_items_archive'),
        move_order_rows(locked, 'order_id', 'order_events', 'order_events_archive');
    RETURN move_order_rows(locked, 'id', 'orders', 'orders_archive');
END $$;
COMMENT ON FUNCTION archive_orders IS 'Moves those of the orders to the archive that are finished and did not change since; returns how many';

CREATE FUNCTION unarchive_orders(ids BIGINT[]) RETURNS BIGINT
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    moved BIGINT := move_order_rows(ids, 'id', 'orders_archive', 'orders');
BEGIN
    IF moved > 0 THEN
        PERFORM move_order_rows(ids, 'order_id', 'order_items_archive', 'order_items'),
            move_order_rows(ids, 'order_id', 'order_events_archive', 'order_events');
    END IF;
    RETURN moved;
END $$;
COMMENT ON FUNCTION unarchive_orders IS 'Moves those of the orders back that are in the archive; returns how many';

REVOKE EXECUTE ON FUNCTION archive_orders, unarchive_orders FROM PUBLIC;
GRANT EXECUTE ON FUNCTION archive_orders, unarchive_orders TO kaimai_product;
GRANT SELECT, UPDATE ON orders_archive, order_items_archive, order_events_archive TO kaimai_product;
-- Only these functions delete orders. No version deletes them otherwise.
REVOKE DELETE ON orders FROM kaimai_product;

-- The statistics count each INSERT into orders. One that brings an order back adds nothing.
CREATE FUNCTION order_stats_uncount() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO order_stats
    SELECT date_bin('30 min', created_at, '2000-01-01Z'), status, order_type, -count(*), -sum(amount) FROM old_orders GROUP BY 1, 2, 3;
    RETURN NULL;
END $$;
CREATE TRIGGER order_stats_delete AFTER DELETE ON orders_archive REFERENCING OLD TABLE AS old_orders
    FOR EACH STATEMENT EXECUTE FUNCTION order_stats_uncount();

-- A unique index covers one table. The order is looked for in both at once, so that one that is moving is not overlooked.
CREATE FUNCTION skip_repeated_order() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM orders WHERE user_id = NEW.user_id AND request_id = NEW.request_id AND id <> NEW.id) THEN
        RETURN NULL;
    END IF;
    RETURN NEW;
END $$;
COMMENT ON FUNCTION skip_repeated_order IS 'As ON CONFLICT DO NOTHING, also for a request id of an order in the archive';
CREATE TRIGGER orders_request_once BEFORE INSERT ON orders
    FOR EACH ROW WHEN (NEW.request_id IS NOT NULL) EXECUTE FUNCTION skip_repeated_order();

-- Nor does a foreign key find orders in the archive. A lock of the order, as a foreign key takes it, is not needed: orders
-- are moved, but never deleted.
CREATE FUNCTION order_must_exist() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM orders WHERE id = NEW.order_id) THEN
        RAISE EXCEPTION 'a row of % refers to order %, which does not exist', TG_TABLE_NAME, NEW.order_id
            USING ERRCODE = 'foreign_key_violation', TABLE = TG_TABLE_NAME, COLUMN = 'order_id', CONSTRAINT = TG_NAME;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER payments_order_exists AFTER INSERT OR UPDATE OF order_id ON payments
    FOR EACH ROW EXECUTE FUNCTION order_must_exist();
ALTER TABLE payments DROP CONSTRAINT payments_order_id_fkey;
CREATE TRIGGER refunds_order_exists AFTER INSERT OR UPDATE OF order_id ON refunds
    FOR EACH ROW EXECUTE FUNCTION order_must_exist();
ALTER TABLE refunds DROP CONSTRAINT refunds_order_id_fkey;
CREATE TRIGGER shipments_order_exists AFTER INSERT OR UPDATE OF order_id ON shipments
    FOR EACH ROW EXECUTE FUNCTION order_must_exist();
ALTER TABLE shipments DROP CONSTRAINT shipments_order_id_fkey;
CREATE TRIGGER payment_sessions_order_exists AFTER INSERT OR UPDATE OF order_id ON payment_sessions
    FOR EACH ROW EXECUTE FUNCTION order_must_exist();
ALTER TABLE payment_sessions DROP CONSTRAINT payment_sessions_order_id_fkey;
CREATE TRIGGER order_discounts_order_exists AFTER INSERT OR UPDATE OF order_id ON order_discounts
    FOR EACH ROW EXECUTE FUNCTION order_must_exist();
ALTER TABLE order_discounts DROP CONSTRAINT order_discounts_order_id_fkey;
CREATE TRIGGER order_content_association_order_exists AFTER INSERT OR UPDATE OF order_id ON order_content_association
    FOR EACH ROW WHEN (NEW.order_id IS NOT NULL) EXECUTE FUNCTION order_must_exist();
ALTER TABLE order_content_association DROP CONSTRAINT order_content_association_order_id_fkey;
CREATE TRIGGER user_coupons_order_exists AFTER INSERT OR UPDATE OF order_id ON user_coupons
    FOR EACH ROW WHEN (NEW.order_id IS NOT NULL) EXECUTE FUNCTION order_must_exist();
ALTER TABLE user_coupons DROP CONSTRAINT user_coupons_order_id_fkey;
