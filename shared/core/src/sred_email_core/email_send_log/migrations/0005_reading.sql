-- What reads the log: watchers of events, and lists of emails.

-- Watchers read events by the transactions that wrote them, and nothing reads them by their sequence alone: the key changes
-- its columns, so that writing an event still costs two index entries.
ALTER TABLE email_events DROP CONSTRAINT email_events_pkey;
ALTER TABLE email_events ADD PRIMARY KEY (transaction_id, sequence);

-- What the provider had told of the email by then. NULL: what its status says.
ALTER TABLE email_events ADD COLUMN delivery text;

-- Events of earlier transactions may have been pruned: who would go on from before it may have missed some.
CREATE TABLE email_events_mark (
    single_row     boolean PRIMARY KEY DEFAULT true CHECK (single_row),
    transaction_id xid8    NOT NULL
);
INSERT INTO email_events_mark (transaction_id) VALUES ('0');

-- Lists of emails, the newest first. Their columns do not change while an email is open, so that QUEUED → SENDING still
-- touches no index; a status in an index would end that, and lists of open emails have email_send_log_open.
CREATE INDEX email_send_log_created ON email_send_log (created_at);
-- Failed, cancelled, expired and suppressed ones, which are few: neither an open email nor one that was sent is in it.
CREATE INDEX email_send_log_unsent ON email_send_log (created_at) WHERE ended_at IS NOT NULL AND sent_at IS NULL;
-- By recipient: the first one of each that has ended, so that acceptance does not pay for it; and all of those emails that
-- have several. A hash costs half of what a tree does, whose pages are met at random.
CREATE INDEX email_send_log_recipient ON email_send_log USING hash ((recipients[1])) WHERE ended_at IS NOT NULL;
CREATE INDEX email_send_log_recipients ON email_send_log USING gin (recipients) WHERE cardinality(recipients) > 1;
