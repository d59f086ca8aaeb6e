-- Goods on their way to the buyer: shipments, the deadline of the automatic confirmation, and the seller.

ALTER TABLE spu ADD COLUMN seller_id UUID;

ALTER TABLE orders
    ADD COLUMN seller_id        UUID,
    ADD COLUMN shipped_at       TIMESTAMPTZ,
    ADD COLUMN confirm_deadline TIMESTAMPTZ,
    ADD CONSTRAINT orders_shipped_to_receiver CHECK (shipped_at IS NULL OR receiver_json IS NOT NULL) NOT VALID,
    ADD CONSTRAINT orders_shipped_has_deadline
        CHECK (status <> 4 OR (shipped_at IS NOT NULL AND confirm_deadline IS NOT NULL)) NOT VALID;
COMMENT ON COLUMN orders.seller_id IS 'Seller of what was bought. NULL: none, or the lines have different ones, which order_items has';
COMMENT ON COLUMN orders.shipped_at IS 'GOODS: when they left the warehouse';
COMMENT ON COLUMN orders.confirm_deadline IS 'GOODS: when a shipped order is confirmed automatically';
COMMENT ON COLUMN orders.deleted IS 'The owner has hidden the finished order; operators still see it';

ALTER TABLE order_items ADD COLUMN seller_id UUID;

CREATE TABLE shipments (
    order_id         BIGINT PRIMARY KEY REFERENCES orders (id),
    carrier          VARCHAR(64) NOT NULL,
    tracking_numbers TEXT[] NOT NULL CHECK (cardinality(tracking_numbers) BETWEEN 1 AND 20),
    shipped_at       TIMESTAMPTZ NOT NULL DEFAULT now()
);
COMMENT ON TABLE shipments IS 'How the goods of a shipped order travel, one tracking number for each parcel. Written by: product.';
GRANT SELECT, INSERT ON shipments TO kaimai_product;
