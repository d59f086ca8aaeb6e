-- Contents, the contents that a sku opens, and the access that users have to them.

-- Ids come from the sequence of items, so that a content's id is never the id of a product or a sku.
CREATE TABLE contents (
    id             BIGINT PRIMARY KEY DEFAULT nextval('item_id_seq'),
    title          VARCHAR(200) NOT NULL,
    content_type   VARCHAR(20) NOT NULL,
    price          BIGINT NOT NULL CHECK (price >= 0),
    access_type    VARCHAR(10) NOT NULL CHECK (access_type IN ('PERMANENT', 'TEMPORARY')),
    access_days    INT CHECK (access_days > 0),
    publish_status SMALLINT NOT NULL DEFAULT 0 CHECK (publish_status IN (0, 1)),
    seller_id      UUID,
    version        BIGINT NOT NULL DEFAULT 1,
    created_at     TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at     TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT contents_days_of_temporary CHECK ((access_type = 'TEMPORARY') = (access_days IS NOT NULL))
);
COMMENT ON TABLE contents IS 'Digital contents that users buy access to. Written by: product.';
COMMENT ON COLUMN contents.content_type IS 'Word of the shop, such as VIDEO, COURSE or ARTICLE';
COMMENT ON COLUMN contents.price IS 'Price of the access when it is bought directly, fen';
COMMENT ON COLUMN contents.access_days IS 'TEMPORARY: days of access that one order buys';
COMMENT ON COLUMN contents.publish_status IS '1 PUBLISHED, 0 UNPUBLISHED';
COMMENT ON COLUMN contents.version IS 'Counts the changes. Of two titles of a content, the one of the higher version is the newer';

CREATE TABLE sku_contents (
    sku_id      BIGINT NOT NULL REFERENCES sku (id),
    content_id  BIGINT NOT NULL REFERENCES contents (id),
    access_type VARCHAR(10) NOT NULL CHECK (access_type IN ('PERMANENT', 'TEMPORARY')),
    access_days INT CHECK (access_days > 0),
    PRIMARY KEY (sku_id, content_id),
    CONSTRAINT sku_contents_days_of_temporary CHECK ((access_type = 'TEMPORARY') = (access_days IS NOT NULL))
);
CREATE INDEX idx_sku_contents_content_id ON sku_contents (content_id);
COMMENT ON TABLE sku_contents IS 'Contents that a unit of a sku opens. Orders keep what was there when they were created. Written by: product.';
COMMENT ON COLUMN sku_contents.access_days IS 'TEMPORARY: days of access that each unit opens';

ALTER TABLE spu ADD COLUMN goods_type VARCHAR(20) NOT NULL DEFAULT '';
COMMENT ON COLUMN spu.goods_type IS 'Word of the shop, such as PHYSICAL or MEMBERSHIP. Orders keep it in each of their items';

-- The index names are those of the document. A schema has each name once, so the indexes of orders have others.
CREATE TABLE order_content_association (
    id                BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    order_id          BIGINT REFERENCES orders (id),
    order_no          VARCHAR(64) GENERATED ALWAYS AS ('ORD' || order_id::text) STORED,
    user_id           UUID NOT NULL,
    content_id        BIGINT NOT NULL,
    content_title     VARCHAR(200) NOT NULL,
    content_type      VARCHAR(20) NOT NULL,
    goods_type        VARCHAR(20),
    access_type       VARCHAR(10) NOT NULL CHECK (access_type IN ('PERMANENT', 'TEMPORARY')),
    access_start_time TIMESTAMPTZ NOT NULL,
    access_end_time   TIMESTAMPTZ,
    status            VARCHAR(10) NOT NULL DEFAULT 'ACTIVE' CHECK (status IN ('ACTIVE', 'EXPIRED', 'REVOKED')),
    deleted           SMALLINT NOT NULL DEFAULT 0 CHECK (deleted IN (0, 1)),
    create_time       TIMESTAMPTZ NOT NULL DEFAULT now(),
    update_time       TIMESTAMPTZ NOT NULL DEFAULT now(),
    content_version   BIGINT NOT NULL DEFAULT 0,
    request_id        VARCHAR(64),
    reason            VARCHAR(255) NOT NULL DEFAULT '',
    CONSTRAINT oca_end_of_temporary
        CHECK ((access_type = 'TEMPORARY') = (access_end_time IS NOT NULL) AND access_start_time <= access_end_time),
    -- An order opens a content once, also if it is paid or repaired twice.
    CONSTRAINT uk_oca_order_content UNIQUE (order_id, content_id)
);
CREATE INDEX idx_user_content ON order_content_association (user_id, content_id);
CREATE INDEX idx_user_id_status ON order_content_association (user_id, status);
-- Only those that can still expire, so that the search for overdue ones never reads those that have expired long ago.
CREATE INDEX idx_access_end_time ON order_content_association (access_end_time) WHERE status = 'ACTIVE';
CREATE INDEX idx_oca_order_no ON order_content_association (order_no);
-- A changed title is copied to the entitlements of its content, in the order of their ids.
CREATE INDEX idx_oca_content_id ON order_content_association (content_id, id);
CREATE UNIQUE INDEX uk_oca_request ON order_content_association (user_id, content_id, request_id) WHERE request_id IS NOT NULL;
COMMENT ON TABLE order_content_association IS 'Entitlements: access of a user to a content, with copies of what lists show, so that checks and lists read no other table. Written by: product.';
COMMENT ON COLUMN order_content_association.order_id IS 'The order that opened the content. NULL: an operator granted it';
COMMENT ON COLUMN order_content_association.content_title IS 'Copy of the title; it follows the content''s changes';
COMMENT ON COLUMN order_content_association.goods_type IS 'Of the goods that opened the content. NULL: it was bought directly, or granted';
COMMENT ON COLUMN order_content_association.access_end_time IS 'NULL: PERMANENT. Access after it begins with the next entitlement of the user to the content';
COMMENT ON COLUMN order_content_association.status IS 'ACTIVE, EXPIRED (its end has passed), REVOKED (by a refund or an operator). Checks compare the time as well';
COMMENT ON COLUMN order_content_association.content_version IS 'Version of the content that content_title is from';
COMMENT ON COLUMN order_content_association.request_id IS 'Idempotency key of an operator''s grant';
COMMENT ON COLUMN order_content_association.reason IS 'Why an operator granted it, or why it was revoked';

-- Snapshot of the content that an order bought directly; product_name has its title. What the lines of an order of goods open,
-- and their goods_type, is in each element of its items: {…, "goods_type": "…", "contents": [{"content_id": "…", "days": 30}]}.
ALTER TABLE orders
    ADD COLUMN content_id   BIGINT,
    ADD COLUMN content_type VARCHAR(20),
    ADD COLUMN content_days INT;
ALTER TABLE orders
    ADD CONSTRAINT orders_content_id_fkey FOREIGN KEY (content_id) REFERENCES contents (id) NOT VALID,
    ADD CONSTRAINT orders_content_of_type CHECK ((order_type = 'CONTENT') = (content_id IS NOT NULL)) NOT VALID,
    ADD CONSTRAINT orders_content_alone CHECK (content_id IS NULL
        OR (product_id IS NULL AND sku_id IS NULL AND items IS NULL AND content_type IS NOT NULL)) NOT VALID,
    ADD CONSTRAINT orders_content_days CHECK (content_days IS NULL OR (content_days > 0 AND content_id IS NOT NULL)) NOT VALID;
COMMENT ON COLUMN orders.content_id IS 'CONTENT: the content. product_name is its title and price its price when the order was created';
COMMENT ON COLUMN orders.content_type IS 'CONTENT: type of the content when the order was created';
COMMENT ON COLUMN orders.content_days IS 'CONTENT: days of access that the order buys. NULL: permanent access';

ALTER TABLE sales
    DROP CONSTRAINT sales_order_type_check,
    ADD CONSTRAINT sales_order_type_check CHECK (order_type IN ('INSTANCE', 'GOODS', 'CONTENT')) NOT VALID;
COMMENT ON COLUMN sales.order_type IS 'Type of its orders. INSTANCE: the item is a product. GOODS: a sku. CONTENT: a content';

GRANT SELECT, INSERT, UPDATE ON contents, order_content_association TO kaimai_product;
GRANT SELECT, INSERT, DELETE ON sku_contents TO kaimai_product;
