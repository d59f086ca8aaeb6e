-- Sales that let their buyers in by token, and in the order of their arrival.

ALTER TABLE sales
    ADD COLUMN require_token BOOLEAN NOT NULL DEFAULT false,
    ADD COLUMN admit_rate INT NOT NULL DEFAULT 0 CHECK (admit_rate BETWEEN 0 AND 1000000);
COMMENT ON COLUMN sales.require_token IS 'Purchase asks for a token of IssuePurchaseToken';
COMMENT ON COLUMN sales.admit_rate IS 'Users let in each second, in the order of their arrival; 0: as they come. Implies require_token';
