-- Expiry found by time, emails that must travel alone, sends that kill their owners, one letter for each malformed email.

-- Set when a batch that carried the email was refused: only a lone answer says what is wrong with it.
ALTER TABLE email_send_log ADD COLUMN alone boolean NOT NULL DEFAULT false;

-- Open emails that expire, soonest first.
CREATE INDEX email_send_log_expiring ON email_send_log (expire_at) WHERE ended_at IS NULL AND expire_at IS NOT NULL;

-- Owners that died while they had the send.
ALTER TABLE email_sends ADD COLUMN deaths integer NOT NULL DEFAULT 0;

-- The email that a malformed entry names. Entries that name the same email are one letter: what publishes them does so
-- again and again.
ALTER TABLE email_dead_letters ADD COLUMN named_email_id uuid;
CREATE UNIQUE INDEX email_dead_letters_named ON email_dead_letters (named_email_id)
    WHERE resolved_at IS NULL AND named_email_id IS NOT NULL;

-- Letters of an email that have not been resolved although it was sent after all: found by the reconciler.
CREATE INDEX email_dead_letters_email ON email_dead_letters (email_id);
