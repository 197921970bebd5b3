-- The log of emails, the sends that carry them, the dead letters, and what happened when.

-- One row for each accepted email: the truth about it.
CREATE TABLE email_send_log (
    id                  uuid        PRIMARY KEY,                 -- UUIDv7, made by the ingress
    idempotency_key     text        NOT NULL UNIQUE,
    fingerprint         bytea       NOT NULL CHECK (octet_length(fingerprint) = 32),
    kind                text        NOT NULL,
    priority            text        NOT NULL CHECK (priority IN ('HIGH', 'NORMAL', 'LOW')),
    status              text        NOT NULL CHECK (status IN ('QUEUED', 'SCHEDULED', 'SENDING', 'RETRYING', 'SUCCESS',
                                                               'FAILED', 'CANCELLED', 'EXPIRED', 'SUPPRESSED')),
    from_address        text        NOT NULL,
    recipients          text[]      NOT NULL,                    -- the addresses in "to"
    subject             text        NOT NULL,
    attempts            integer     NOT NULL DEFAULT 0,
    generation          integer     NOT NULL DEFAULT 1,          -- of the next send: part of its Idempotency-Key
    last_error          text,
    provider_message_id text,
    delivery            text,
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now(),
    send_at             timestamptz,
    expire_at           timestamptz,
    next_attempt_at     timestamptz,
    sent_at             timestamptz,
    ended_at            timestamptz,                             -- NULL while the email is open
    message             bytea                                    -- sred.email.v1.EmailContent; NULL once it is not needed
);

-- Message bodies are compressed poorly and read rarely: kept out of line as they are.
ALTER TABLE email_send_log ALTER COLUMN message SET STORAGE EXTERNAL;

-- Open emails in order of acceptance. Its condition names ended_at, not status, so that QUEUED → SENDING → RETRYING
-- touches no index.
CREATE INDEX email_send_log_open ON email_send_log (id) WHERE ended_at IS NULL;

-- Fences are never used twice, also where a send is dissolved and its key used again.
CREATE SEQUENCE email_send_fences;

-- What one POST is about. Every POST belongs to a send that was committed before it.
CREATE TABLE email_sends (
    id                 text        PRIMARY KEY,                  -- the Idempotency-Key
    state              text        NOT NULL DEFAULT 'OPEN' CHECK (state IN ('OPEN', 'DEAD')),  -- DEAD: a replay reopens it
    endpoint           text        NOT NULL,                     -- path of the provider's API
    serializer_version integer     NOT NULL,
    redirect_to        text,                                     -- SRED_EMAIL_REDIRECT_ALL_TO at that time
    configured_headers bytea,                                    -- headers added by configuration at that time
    body_sha256        bytea       NOT NULL CHECK (octet_length(body_sha256) = 32),
    owner              text        NOT NULL,
    fence              bigint      NOT NULL DEFAULT nextval('email_send_fences'),  -- a new one with each claim
    owners             integer     NOT NULL DEFAULT 1,           -- 1 + leases that ran out and were taken over
    lease_expires_at   timestamptz,                              -- NULL: free
    first_post_at      timestamptz,                              -- the horizon runs from here
    requests_begun     integer     NOT NULL DEFAULT 1,
    requests_refused   integer     NOT NULL DEFAULT 0,           -- of these, those that were definitely refused
    key_spent          boolean     NOT NULL DEFAULT false,       -- the provider knows the key with other bytes
    maybe_accepted     boolean     NOT NULL GENERATED ALWAYS AS (requests_begun > requests_refused OR owners > 1) STORED,
    created_at         timestamptz NOT NULL DEFAULT now(),
    updated_at         timestamptz NOT NULL DEFAULT now()
);

-- The emails of a send, in order. The primary key is the promise that an email is in at most one send.
-- No foreign keys: both sides are written by the same statement, and a check for each member costs more than the row.
CREATE TABLE email_send_members (
    email_id uuid    PRIMARY KEY,
    send_id  text    NOT NULL,
    position integer NOT NULL,
    UNIQUE (send_id, position)
);

-- Emails that were given up, and stream entries that were no emails.
CREATE TABLE email_dead_letters (
    id                     uuid        PRIMARY KEY,
    email_id               uuid,                                 -- NULL: the entry could not be decoded
    reason                 text        NOT NULL CHECK (reason IN ('REJECTED', 'ATTEMPTS_EXHAUSTED', 'OUTCOME_UNKNOWN',
                                                                  'POISON', 'MALFORMED')),
    error                  text        NOT NULL,
    attempts               integer     NOT NULL DEFAULT 0,
    failed_at              timestamptz NOT NULL DEFAULT now(),
    may_have_been_accepted boolean     NOT NULL DEFAULT false,
    repeatable_until       timestamptz,                          -- the horizon, where may_have_been_accepted
    raw_entry              bytea,                                -- sred.email.v1.RawStreamEntry, where email_id is NULL
    source_stream          text,
    source_entry_id        text,
    resolution             text        CHECK (resolution IN ('REPLAYED', 'DELIVERED', 'NOT_DELIVERED', 'DISCARDED')),
    resolved_at            timestamptz,                          -- NULL while the letter is open
    note                   text,
    UNIQUE (source_stream, source_entry_id)                      -- a malformed entry that is read twice is one letter
);

CREATE UNIQUE INDEX email_dead_letters_open_email ON email_dead_letters (email_id) WHERE resolved_at IS NULL;
CREATE INDEX email_dead_letters_open ON email_dead_letters (failed_at, id) WHERE resolved_at IS NULL;

-- What happened to each email, written by the statement that made it happen.
CREATE TABLE email_events (
    sequence            bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    transaction_id      xid8        NOT NULL DEFAULT pg_current_xact_id(),
    email_id            uuid        NOT NULL,
    what                text        NOT NULL,                    -- ACCEPTED, ATTEMPT_FAILED, POSTPONED, SENT, FAILED, REPLAYED
    status              text        NOT NULL,                    -- of the email from then on
    at                  timestamptz NOT NULL DEFAULT now(),
    attempt             integer     NOT NULL DEFAULT 0,
    reason              text,
    provider_message_id text,
    consumer            text
);

CREATE INDEX email_events_email ON email_events (email_id, sequence);
