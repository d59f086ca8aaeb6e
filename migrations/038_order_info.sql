-- The orders of document 003: its view order_info, and comparisons of user ids with numbers.

ALTER TABLE orders ADD COLUMN goods_type VARCHAR(20);
COMMENT ON COLUMN orders.goods_type IS 'GOODS: type of the first line''s goods when the order was created. NULL: it is not known';

-- As formatUserId maps them: 123 is 00000000-0000-8000-8000-00000000007b. A negative number is no user.
CREATE FUNCTION user_uuid(id BIGINT) RETURNS UUID LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN id >= 0 THEN
    regexp_replace(lpad(to_hex(id), 16, '0'), '^(.)(...)(.*)$', '00000000-0000-800\1-8\2-\3')::uuid END;
COMMENT ON FUNCTION user_uuid IS 'The UUID of a user whose id is a number';

-- Both functions are inlined when a statement is planned, so `user_id = 1001` is a comparison with a UUID that an index finds.
CREATE FUNCTION is_user(user_id UUID, number BIGINT) RETURNS BOOLEAN LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN user_id = user_uuid(number);
COMMENT ON FUNCTION is_user IS 'The operator =(uuid, bigint)';
CREATE OPERATOR = (LEFTARG = UUID, RIGHTARG = BIGINT, FUNCTION = is_user, RESTRICT = eqsel, JOIN = eqjoinsel);

CREATE FUNCTION yuan(fen BIGINT) RETURNS NUMERIC LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN fen < 10000000000 THEN fen * 0.01 END;
COMMENT ON FUNCTION yuan IS 'An amount as numeric(10,2) can hold it. NULL: it is too large';

CREATE VIEW order_info AS
SELECT id,
       -- Not the column, so that the list of a user's orders is read from idx_orders_user_id alone. The same goes for the type.
       ('ORD' || id)::varchar(64) AS order_no,
       user_id,
       order_type,
       CASE WHEN order_type <> 'CONTENT' THEN coalesce(product_id, sku_id, (items -> 0 ->> 'sku_id')::bigint) END AS goods_id,
       CASE WHEN order_type <> 'CONTENT' THEN product_name END AS goods_name,
       CASE order_type WHEN 'INSTANCE' THEN 'INSTANCE' ELSE goods_type END::varchar(20) AS goods_type,
       CASE WHEN order_type <> 'CONTENT' THEN yuan(price) END::numeric(10,2) AS goods_price,
       CASE order_type WHEN 'GOODS' THEN coalesce(jsonb_array_length(items), 1) WHEN 'INSTANCE' THEN 1 ELSE 0 END AS goods_count,
       content_id,
       CASE WHEN order_type = 'CONTENT' THEN product_name END AS content_title,
       content_type,
       CASE WHEN order_type = 'CONTENT' THEN yuan(price) END::numeric(10,2) AS content_price,
       -- coalesce: orders of earlier versions have no items.
       content_id IS NOT NULL OR coalesce(jsonb_path_exists(items, '$[*].contents[0]'), false) AS opens_content,
       quantity,
       yuan(total_amount)::numeric(10,2) AS total_amount,
       yuan(amount)::numeric(10,2) AS pay_amount,
       CASE status WHEN 0 THEN 'PENDING' WHEN 1 THEN 'PAID' WHEN 2 THEN 'CANCELLED' WHEN 3 THEN 'COMPLETED' WHEN 4 THEN 'SHIPPED'
           WHEN 5 THEN 'REFUNDING' END AS status,
       paid_at AS pay_time,
       created_at AS create_time,
       updated_at AS update_time,
       version,
       deleted::int AS deleted
FROM orders;
COMMENT ON VIEW order_info IS 'Orders with the names of document 003. Of an order with several lines the goods are those of the first one. Read only.';
COMMENT ON COLUMN order_info.goods_id IS 'CONTENT: NULL. The product or the first sku; products, skus and contents share no id';
COMMENT ON COLUMN order_info.goods_count IS 'Lines of the order';
COMMENT ON COLUMN order_info.opens_content IS 'Whether the order opens contents: its own, or those of its goods';
COMMENT ON COLUMN order_info.total_amount IS 'Yuan, before freight and discounts. Amounts that DECIMAL(10,2) cannot hold are NULL';
COMMENT ON COLUMN order_info.pay_amount IS 'Yuan, after freight and discounts';

GRANT SELECT ON order_info TO kaimai_product, kaimai_resource;
GRANT EXECUTE ON FUNCTION user_uuid(BIGINT), is_user(UUID, BIGINT), yuan(BIGINT) TO kaimai_product, kaimai_resource;
