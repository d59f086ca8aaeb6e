-- Orders counted by half hour, status and type, in the transaction that changes them, for statistics that read no order.

CREATE TABLE order_stats (
    created_from TIMESTAMPTZ NOT NULL,
    status       SMALLINT NOT NULL,
    order_type   VARCHAR(10) NOT NULL,
    orders       BIGINT NOT NULL,
    amount       NUMERIC NOT NULL
);
CREATE INDEX idx_order_stats_created_from ON order_stats (created_from) INCLUDE (status, order_type, orders, amount);
-- Rows come and go as in a queue, see order_stats_count().
ALTER TABLE order_stats SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.05);
COMMENT ON TABLE order_stats IS 'What the orders created in half an hour add up to, by status and type. The rows of one half hour add up: each transaction that changes orders inserts what it adds and takes away, by triggers on orders, so that none waits for another. Written by: product.';

-- It also adds up earlier rows of a half hour now and then, so that some twenty are left. Rows that another transaction adds up
-- are skipped: nothing waits. The advisory lock keeps it apart from a recount, which must not see half of it.
CREATE FUNCTION order_stats_count() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    slot TIMESTAMPTZ;
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO order_stats
        SELECT date_bin('30 min', created_at, '2000-01-01Z'), status, order_type, count(*), sum(amount) FROM new_orders GROUP BY 1, 2, 3;
    ELSE
        INSERT INTO order_stats
        SELECT * FROM (
            SELECT date_bin('30 min', created_at, '2000-01-01Z'), status, order_type, sum(n) AS orders, sum(n * amount) AS amount
            FROM (SELECT created_at, status, order_type, amount, 1 AS n FROM new_orders
                UNION ALL SELECT created_at, status, order_type, amount, -1 FROM old_orders) AS changes GROUP BY 1, 2, 3) AS sums
        WHERE orders <> 0 OR amount <> 0;
        IF NOT FOUND THEN
            RETURN NULL;
        END IF;
    END IF;
    IF random() < 0.05 AND pg_try_advisory_xact_lock_shared(7163942) THEN
        SELECT date_bin('30 min', created_at, '2000-01-01Z') INTO slot FROM new_orders LIMIT 1;
        WITH gone AS (DELETE FROM order_stats WHERE ctid = ANY (ARRAY(
                SELECT ctid FROM order_stats WHERE created_from = slot LIMIT 1000 FOR UPDATE SKIP LOCKED))
            RETURNING created_from, status, order_type, orders, amount)
        INSERT INTO order_stats
        SELECT created_from, status, order_type, sum(orders), sum(amount) FROM gone GROUP BY 1, 2, 3 HAVING sum(orders) <> 0 OR sum(amount) <> 0;
    END IF;
    RETURN NULL;
END $$;

-- All orders anew, also to repair the table. One statement both deletes and counts, so changes that have not committed by then
-- are in neither and add their own rows.
CREATE FUNCTION order_stats_recount() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(7163942);
    WITH gone AS (DELETE FROM order_stats)
    INSERT INTO order_stats
    SELECT date_bin('30 min', created_at, '2000-01-01Z'), status, order_type, count(*), sum(amount) FROM orders GROUP BY 1, 2, 3;
END $$;
COMMENT ON FUNCTION order_stats_recount IS 'Counts all orders into order_stats anew';

CREATE TRIGGER order_stats_insert AFTER INSERT ON orders REFERENCING NEW TABLE AS new_orders
    FOR EACH STATEMENT EXECUTE FUNCTION order_stats_count();
CREATE TRIGGER order_stats_update AFTER UPDATE ON orders REFERENCING OLD TABLE AS old_orders NEW TABLE AS new_orders
    FOR EACH STATEMENT EXECUTE FUNCTION order_stats_count();
GRANT SELECT, INSERT, UPDATE, DELETE ON order_stats TO kaimai_product;
