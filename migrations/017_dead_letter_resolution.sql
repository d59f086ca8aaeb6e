-- An operator replays or drops a dead letter; the row stays, with what became of it.

ALTER TABLE dead_letters ADD COLUMN resolution VARCHAR(255) NOT NULL DEFAULT '';
COMMENT ON COLUMN dead_letters.resolved_at IS 'When an operator replayed or dropped it; NULL while it waits';
COMMENT ON COLUMN dead_letters.resolution IS 'The stream id under which the entry was added again, or why it was dropped';

ALTER TABLE resource_dead_letters
    ADD COLUMN resolved_at TIMESTAMPTZ,
    ADD COLUMN resolution  VARCHAR(255) NOT NULL DEFAULT '',
    ADD COLUMN deliveries  INT NOT NULL DEFAULT 1;
COMMENT ON COLUMN resource_dead_letters.resolved_at IS 'When an operator replayed or dropped it; NULL while it waits';
COMMENT ON COLUMN resource_dead_letters.resolution IS 'That it was published again, or why it was dropped';
COMMENT ON COLUMN resource_dead_letters.deliveries IS 'How often the message was rejected; a message that is rejected again after a replay waits again';
