-- One database role per process. Each role reads what its process needs and writes only the tables of its domain.

-- Roles belong to the whole server, so the migration of another database may create them at the same moment.
DO $$
DECLARE r TEXT;
BEGIN
    FOREACH r IN ARRAY ARRAY['kaimai_product', 'kaimai_resource'] LOOP
        BEGIN
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = r) THEN
                EXECUTE format('CREATE ROLE %I NOLOGIN', r);
            END IF;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;
        END;
    END LOOP;
END $$;

DO $$
BEGIN
    -- A superuser may switch to any role. Every other user must be a member of it.
    IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        EXECUTE format('GRANT kaimai_product, kaimai_resource TO %I', current_user);
    END IF;
END $$;

GRANT USAGE ON SCHEMA public TO kaimai_product, kaimai_resource;

GRANT SELECT, INSERT, UPDATE, DELETE ON
    product_specs, products, orders, order_events, payments, refunds, sales, stream_inbox, instance_requests, outbox,
    dead_letters
    TO kaimai_product;
GRANT USAGE, SELECT ON SEQUENCE product_specs_id_seq, item_id_seq, sale_epoch_seq, outbox_id_seq, dead_letters_id_seq
    TO kaimai_product;
GRANT SELECT ON instance_logs, simulated_instances, resource_dead_letters TO kaimai_product;

GRANT SELECT, INSERT, UPDATE, DELETE ON instance_logs, simulated_instances, resource_dead_letters TO kaimai_resource;
GRANT USAGE, SELECT ON SEQUENCE instance_logs_id_seq, resource_dead_letters_id_seq TO kaimai_resource;
GRANT SELECT ON product_specs, products, orders TO kaimai_resource;
