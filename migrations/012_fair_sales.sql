-- Sales that require a purchase token, and sales that admit their buyers in the order of arrival.

ALTER TABLE sales
    ADD COLUMN require_token BOOLEAN NOT NULL DEFAULT false,
    ADD COLUMN admit_rate INT NOT NULL DEFAULT 0 CHECK (admit_rate BETWEEN 0 AND 1000000);
COMMENT ON COLUMN sales.require_token IS 'Whether Purchase requires a token from IssuePurchaseToken';
COMMENT ON COLUMN sales.admit_rate IS 'Users admitted each second, in the order of their arrival. 0: no waiting room. Any other value implies require_token';
