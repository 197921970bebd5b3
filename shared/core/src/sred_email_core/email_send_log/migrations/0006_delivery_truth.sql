-- What the provider tells after it has taken an email, and the addresses that get none.

-- What the provider has told of the email by then; NULL: it has told nothing since it took it, or has not taken it.
ALTER TABLE email_events ADD COLUMN IF NOT EXISTS delivery text;

-- Events of the provider whose email id is not among its tags find their email by this. Partial, so that an email is
-- entered once: by the record of its end, which is never HOT anyway. A hash: what a provider calls an id may be long.
CREATE INDEX email_send_log_provider_message ON email_send_log USING hash (provider_message_id)
    WHERE provider_message_id IS NOT NULL;

-- Authentic events of the provider, kept before they are answered, and worked afterwards.
CREATE TABLE email_webhook_events (
    svix_id             text        PRIMARY KEY,                 -- the same for each delivery of one event
    delivery            text        NOT NULL CHECK (delivery IN ('SENT', 'DELAYED', 'DELIVERED', 'DELIVERY_FAILED', 'BOUNCED',
                                                                 'COMPLAINED')),
    email_id            uuid,                                    -- from its tags
    provider_message_id text,
    occurred_at         timestamptz,                             -- by the provider's clock
    detail              text,                                    -- the provider's words; NULL once it was worked
    suppress            text,                                    -- the address to suppress; NULL: none, or it was worked
    suppress_reason     text,
    received_at         timestamptz NOT NULL DEFAULT now(),
    due_at              timestamptz NOT NULL DEFAULT now(),      -- an event whose email is not known is tried again
    tries               integer     NOT NULL DEFAULT 0,
    worked_at           timestamptz                              -- NULL: it is to be worked
);

CREATE INDEX email_webhook_events_due ON email_webhook_events (due_at) WHERE worked_at IS NULL;
CREATE INDEX email_webhook_events_worked ON email_webhook_events (worked_at) WHERE worked_at IS NOT NULL;

-- Addresses that get no email. One that was freed stays as a digest, so that copies learn of it.
CREATE TABLE email_suppressions (
    digest     bytea       PRIMARY KEY CHECK (octet_length(digest) = 16),  -- of the address: what copies know it by
    address    text,                                             -- normalised; NULL: it is free again
    reason     text        NOT NULL CHECK (reason IN ('BOUNCED', 'COMPLAINED', 'MANUAL')),
    source     text        NOT NULL,                             -- who said so: webhook or operator
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,                                      -- NULL: until it is removed
    changed_at timestamptz NOT NULL DEFAULT now(),
    version    bigint      NOT NULL                              -- of the whole list, when this row changed last
);

CREATE INDEX email_suppressions_address ON email_suppressions (address) WHERE address IS NOT NULL;
CREATE INDEX email_suppressions_version ON email_suppressions (version);

-- Recipients that were left out of the email when its send was made, by their places in to, cc and bcc taken together, from
-- 0: a repeat leaves out the same ones, whatever the list says by then. NULL: none.
ALTER TABLE email_send_members ADD COLUMN left_out smallint[];
