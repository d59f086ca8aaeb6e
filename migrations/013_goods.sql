-- Goods: spu and sku, the ledger of their stock, order lines, and flash sales of goods.

-- Both draw their ids from the sequence of items, so that the id of one is never the id of another.
CREATE TABLE spu (
    id             BIGINT PRIMARY KEY DEFAULT nextval('item_id_seq'),
    spu_no         VARCHAR(64) NOT NULL CONSTRAINT uk_spu_no UNIQUE,
    title          VARCHAR(255) NOT NULL,
    category_id    BIGINT NOT NULL,
    brand_id       BIGINT NOT NULL,
    main_images    JSONB NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(main_images) = 'array'),
    detail_html    TEXT NOT NULL DEFAULT '',
    publish_status SMALLINT NOT NULL DEFAULT 0 CHECK (publish_status IN (0, 1)),
    version        BIGINT NOT NULL DEFAULT 1,
    created_at     TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at     TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX idx_spu_category ON spu (category_id, id);
COMMENT ON TABLE spu IS 'Standard product units: what all variants of a product share. Written by: product.';
COMMENT ON COLUMN spu.publish_status IS '1 PUBLISHED, 0 UNPUBLISHED';

CREATE TABLE sku (
    id           BIGINT PRIMARY KEY DEFAULT nextval('item_id_seq'),
    spu_id       BIGINT NOT NULL REFERENCES spu (id),
    sku_no       VARCHAR(64) NOT NULL CONSTRAINT uk_sku_no UNIQUE,
    sku_name     VARCHAR(255) NOT NULL,
    price        BIGINT NOT NULL CHECK (price >= 0),
    market_price BIGINT CHECK (market_price > 0),
    stock        BIGINT NOT NULL DEFAULT 0,
    lock_stock   BIGINT NOT NULL DEFAULT 0,
    specs        JSONB NOT NULL CHECK (jsonb_typeof(specs) = 'object'),
    version      BIGINT NOT NULL DEFAULT 1,
    created_at   TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at   TIMESTAMPTZ NOT NULL DEFAULT now(),
    -- The final guard against selling units that do not exist or that are reserved.
    CONSTRAINT sku_stock_covers_locks CHECK (0 <= lock_stock AND lock_stock <= stock)
);
CREATE INDEX idx_sku_spu_id ON sku (spu_id);
CREATE INDEX idx_sku_specs ON sku USING gin (specs jsonb_path_ops);
COMMENT ON TABLE sku IS 'Stock keeping units: one variant of an spu, which is bought and counted. Written by: product.';
COMMENT ON COLUMN sku.price IS 'Unit price, fen';
COMMENT ON COLUMN sku.market_price IS 'Crossed-out price, fen. NULL: none';
COMMENT ON COLUMN sku.stock IS 'Units in stock, including reserved ones. Equals the sum of stock_moves.stock_delta';
COMMENT ON COLUMN sku.lock_stock IS 'Units of the stock that sales and unpaid orders reserve. Equals the sum of stock_moves.lock_delta';
COMMENT ON COLUMN sku.specs IS 'Specifications by name, such as {"color": "black", "storage": "256G"}';
COMMENT ON COLUMN sku.version IS 'Counts changes by operators, including adjustments of the stock, but not orders';

CREATE TABLE stock_moves (
    id          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- No foreign key, because the statement that writes the row updates the sku as well.
    sku_id      BIGINT NOT NULL,
    kind        VARCHAR(12) NOT NULL,
    order_id    BIGINT,
    sale_id     BIGINT,
    request_id  VARCHAR(64),
    units       BIGINT NOT NULL CHECK (units > 0),
    stock_delta BIGINT NOT NULL,
    lock_delta  BIGINT NOT NULL,
    reason      VARCHAR(255) NOT NULL DEFAULT '',
    created_at  TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT stock_moves_kind CHECK (CASE kind
        WHEN 'ADJUST' THEN order_id IS NULL AND sale_id IS NULL AND abs(stock_delta) = units AND lock_delta = 0
        WHEN 'SALE_HOLD' THEN order_id IS NULL AND sale_id IS NOT NULL AND stock_delta = 0 AND lock_delta = units
        WHEN 'SALE_RETURN' THEN order_id IS NULL AND sale_id IS NOT NULL AND stock_delta = 0 AND lock_delta = -units
        WHEN 'HOLD' THEN order_id IS NOT NULL AND stock_delta = 0 AND lock_delta IN (0, units)
        WHEN 'DEDUCT' THEN order_id IS NOT NULL AND stock_delta = -units AND lock_delta = -units
        WHEN 'RETURN' THEN order_id IS NOT NULL AND stock_delta = 0 AND lock_delta IN (0, -units)
        ELSE false END)
);
CREATE UNIQUE INDEX uk_stock_moves_order ON stock_moves (order_id, sku_id, kind) WHERE order_id IS NOT NULL;
CREATE UNIQUE INDEX uk_stock_moves_sale ON stock_moves (sale_id, kind) WHERE sale_id IS NOT NULL AND order_id IS NULL;
CREATE UNIQUE INDEX uk_stock_moves_request ON stock_moves (sku_id, request_id) WHERE request_id IS NOT NULL;
COMMENT ON TABLE stock_moves IS 'Ledger of the stock of every sku. A row is written in the statement that changes the sku, and never changed. Written by: product.';
COMMENT ON COLUMN stock_moves.kind IS 'ADJUST: by an operator. SALE_HOLD, SALE_RETURN: a sale reserves its units and returns the unsold ones. HOLD, DEDUCT, RETURN: an order is unpaid, paid, cancelled';
COMMENT ON COLUMN stock_moves.lock_delta IS 'What the row adds to lock_stock. 0 for a HOLD or RETURN whose units the sale reserves before or afterwards';

ALTER TABLE sales
    ADD COLUMN order_type  VARCHAR(10) NOT NULL DEFAULT 'INSTANCE' CHECK (order_type IN ('INSTANCE', 'GOODS')),
    ADD COLUMN returned    BIGINT NOT NULL DEFAULT 0 CHECK (returned >= 0),
    ADD COLUMN released_at TIMESTAMPTZ,
    DROP CONSTRAINT sales_not_oversold,
    ADD CONSTRAINT sales_not_oversold CHECK (sold BETWEEN 0 AND total - returned),
    ADD CONSTRAINT sales_return_once_released CHECK (returned = 0 OR released_at IS NOT NULL);
CREATE INDEX idx_sales_to_release ON sales (id) WHERE status = 2 AND order_type = 'GOODS' AND released_at IS NULL;
COMMENT ON COLUMN sales.order_type IS 'Type of its orders. INSTANCE: the item is a product. GOODS: the item is a sku';
COMMENT ON COLUMN sales.returned IS 'GOODS: units that went back to the sku. The sale reserves total - sold - returned';
COMMENT ON COLUMN sales.released_at IS 'GOODS: when the closed sale returned its unsold units. Units of orders that are cancelled later go to the sku as well';

ALTER TABLE orders
    ADD COLUMN sku_id BIGINT REFERENCES sku (id),
    -- The name of a sku may have 255 characters.
    ALTER COLUMN product_name TYPE VARCHAR(255),
    ADD CONSTRAINT orders_sku_is_goods CHECK (sku_id IS NULL OR (order_type = 'GOODS' AND product_id IS NULL));
CREATE UNIQUE INDEX uk_orders_sku_req ON orders (sku_id, req_id) WHERE sku_id IS NOT NULL;
COMMENT ON COLUMN orders.sku_id IS 'The one sku of a flash-sale order of goods. order_items has the lines of every GOODS order';

CREATE TABLE order_items (
    order_id    BIGINT NOT NULL REFERENCES orders (id),
    sku_id      BIGINT NOT NULL REFERENCES sku (id),
    spu_id      BIGINT NOT NULL,
    spu_name    VARCHAR(255) NOT NULL,
    sku_name    VARCHAR(255) NOT NULL,
    sku_image   VARCHAR(1024) NOT NULL DEFAULT '',
    specs       JSONB NOT NULL,
    price       BIGINT NOT NULL CHECK (price >= 0),
    quantity    INT NOT NULL CHECK (quantity > 0),
    total_price BIGINT NOT NULL,
    PRIMARY KEY (order_id, sku_id),
    CONSTRAINT order_items_add_up CHECK (total_price = price * quantity)
);
COMMENT ON TABLE order_items IS 'Lines of GOODS orders: a snapshot of name and price at the time of the order. Written by: product.';

GRANT SELECT, INSERT, UPDATE, DELETE ON spu, sku, order_items TO kaimai_product;
-- No UPDATE and no DELETE: a mistake in the ledger is corrected by another row.
GRANT SELECT, INSERT ON stock_moves TO kaimai_product;
