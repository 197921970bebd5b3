-- Expiry found by time, emails that must travel alone, sends that kill their owners, one letter for each malformed email.

-- Set when a batch that carried the email was refused: only a lone answer says what is wrong with it.
ALTER TABLE email_send_log ADD COLUMN alone boolean NOT NULL DEFAULT false;

-- Open emails that expire, soonest first.
CREATE INDEX email_send_log_expiring ON email_send_log (expire_at) WHERE ended_at IS NULL AND expire_at IS NOT NULL;

-- Owners that died while they had the send.
ALTER TABLE email_sends ADD COLUMN deaths integer NOT NULL DEFAULT 0;

-- Entries that are no emails are told apart by what they hold: an entry that is read twice is one letter, and so are
-- entries with the same fields that name the same email of the log, since what publishes it does so again and again.
ALTER TABLE email_dead_letters ADD COLUMN named_email_id uuid;     -- NULL: the entry names none that the log has
ALTER TABLE email_dead_letters ADD COLUMN fields_sha256 bytea;
ALTER TABLE email_dead_letters DROP CONSTRAINT email_dead_letters_source_stream_source_entry_id_key;
CREATE UNIQUE INDEX email_dead_letters_source ON email_dead_letters (source_stream, source_entry_id, fields_sha256);
CREATE UNIQUE INDEX email_dead_letters_named ON email_dead_letters (named_email_id, fields_sha256)
    WHERE resolved_at IS NULL AND named_email_id IS NOT NULL;

-- Letters of an email that have not been resolved although it was sent after all: found by the reconciler.
CREATE INDEX email_dead_letters_email ON email_dead_letters (email_id);
