-- no transaction

ALTER TABLE sales VALIDATE CONSTRAINT sales_segments_in_bounds;
