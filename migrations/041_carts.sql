-- Carts as they were last saved from Redis, and the lines that orders took out of carts.

CREATE TABLE carts (
    owner_id   UUID NOT NULL,
    guest      BOOLEAN NOT NULL,
    version    BIGINT NOT NULL,
    taken      BIGINT NOT NULL DEFAULT 0,
    expires_at TIMESTAMPTZ,
    merged_at  TIMESTAMPTZ,
    saved_at   TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (owner_id, guest),
    CONSTRAINT carts_guests_expire CHECK (guest = (expires_at IS NOT NULL) AND (guest OR merged_at IS NULL))
);
CREATE INDEX idx_carts_expires_at ON carts (expires_at) WHERE guest;
COMMENT ON TABLE carts IS 'Carts as last saved from Redis, which has the working copies. Written by: product.';
COMMENT ON COLUMN carts.owner_id IS 'The user, or the id in the guest token';
COMMENT ON COLUMN carts.version IS 'Of the working copy that was saved, in microseconds since 1970: a lower one never replaces a higher one';
COMMENT ON COLUMN carts.taken IS 'The last of cart_checkouts whose lines have left this copy';
COMMENT ON COLUMN carts.merged_at IS 'When the guest cart was merged into the cart of a user; it takes no more lines';

CREATE TABLE cart_items (
    owner_id UUID NOT NULL,
    guest    BOOLEAN NOT NULL,
    sku_id   BIGINT NOT NULL,
    quantity INT NOT NULL CHECK (quantity > 0),
    selected BOOLEAN NOT NULL,
    price    BIGINT CHECK (price >= 0),
    added_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (owner_id, guest, sku_id),
    FOREIGN KEY (owner_id, guest) REFERENCES carts (owner_id, guest) ON DELETE CASCADE
);
COMMENT ON TABLE cart_items IS 'The lines of carts. Without a reference to sku, so that no line keeps a cart from being saved. Written by: product.';
COMMENT ON COLUMN cart_items.price IS 'List price of a unit when the line was added, fen. NULL: not known';

CREATE TABLE cart_checkouts (
    id       BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id  UUID NOT NULL,
    order_id BIGINT NOT NULL,
    lines    JSONB NOT NULL CHECK (jsonb_typeof(lines) = 'array'),
    left_at  TIMESTAMPTZ,
    at       TIMESTAMPTZ NOT NULL DEFAULT now()
);
-- One at a time: the lines of a checkout leave the cart before the next one reads it.
CREATE UNIQUE INDEX uk_cart_checkouts_open ON cart_checkouts (user_id) WHERE left_at IS NULL;
CREATE INDEX idx_cart_checkouts_user ON cart_checkouts (user_id, id);
COMMENT ON TABLE cart_checkouts IS 'Lines that an order took out of a cart, inserted with the order and kept until the cart is saved without them. Written by: product.';
COMMENT ON COLUMN cart_checkouts.lines IS '[{"sku_id": "1005", "quantity": 2}]';
COMMENT ON COLUMN cart_checkouts.left_at IS 'When they left the working copy';

GRANT SELECT, INSERT, UPDATE, DELETE ON carts, cart_items, cart_checkouts TO kaimai_product;
