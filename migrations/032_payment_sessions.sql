-- Payments that are started at a provider, and the simulated providers' own records of them.

CREATE TABLE payment_sessions (
    id              BIGINT PRIMARY KEY,
    order_id        BIGINT NOT NULL REFERENCES orders (id),
    provider        VARCHAR(32) NOT NULL,
    amount          BIGINT NOT NULL CHECK (amount >= 0),
    status          VARCHAR(10) NOT NULL DEFAULT 'OPEN' CHECK (status IN ('OPEN', 'PAID', 'CLOSED')),
    pay_url         VARCHAR(2048),
    expires_at      TIMESTAMPTZ NOT NULL,
    look_ups        INT NOT NULL DEFAULT 0,
    next_look_up_at TIMESTAMPTZ NOT NULL,
    created_at      TIMESTAMPTZ NOT NULL DEFAULT now(),
    ended_at        TIMESTAMPTZ,
    CONSTRAINT payment_sessions_ended_has_time CHECK ((status = 'OPEN') = (ended_at IS NULL))
);
CREATE INDEX idx_payment_sessions_order_id ON payment_sessions (order_id);
CREATE INDEX idx_payment_sessions_due ON payment_sessions (next_look_up_at) WHERE status = 'OPEN';
COMMENT ON TABLE payment_sessions IS 'Payments that were started at a provider, or are about to be. Stored before the provider is asked, with the id by which it knows the payment, so that no payment is lost. Written by: product.';
COMMENT ON COLUMN payment_sessions.pay_url IS 'Where the buyer pays. NULL: it is not known that the provider started it';
COMMENT ON COLUMN payment_sessions.next_look_up_at IS 'When the provider is asked (again) what became of it: the time its callback has, and the lease of the process that asks';
GRANT SELECT, INSERT, UPDATE ON payment_sessions TO kaimai_product;

CREATE TABLE simulated_payments (
    session_id BIGINT PRIMARY KEY,
    provider   VARCHAR(32) NOT NULL,
    order_id   BIGINT NOT NULL,
    amount     BIGINT NOT NULL CHECK (amount >= 0),
    status     VARCHAR(10) NOT NULL DEFAULT 'OPEN' CHECK (status IN ('OPEN', 'PAID', 'CLOSED')),
    expires_at TIMESTAMPTZ NOT NULL,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
COMMENT ON TABLE simulated_payments IS 'What the simulated payment providers know of the payments that were started at them. Written by: product.';
GRANT SELECT, INSERT, UPDATE ON simulated_payments TO kaimai_product;
