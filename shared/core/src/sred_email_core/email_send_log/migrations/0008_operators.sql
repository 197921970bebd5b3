-- What operators do: the audit, and people who are to be forgotten.

-- One row for each call that changed something, written by the transaction that changed it. A call that works in several
-- transactions has one row, whose count grows.
CREATE TABLE email_audit (
    sequence bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    call_id  uuid        NOT NULL UNIQUE,
    at       timestamptz NOT NULL DEFAULT now(),
    actor    text        NOT NULL,                             -- anonymous: authentication was off
    peer     text        NOT NULL DEFAULT '',                  -- where the call came from
    action   text        NOT NULL,
    target   text        NOT NULL DEFAULT '',                  -- a lane, ids, a selection; an address only as its digest
    detail   text        NOT NULL DEFAULT '',
    count    integer     NOT NULL DEFAULT 0
);

-- Emails that are erased when the send that they are in has ended. The recipient is known by digest only.
CREATE TABLE email_erasures (
    email_id     uuid        NOT NULL,
    digest       bytea       NOT NULL CHECK (octet_length(digest) = 16),
    requested_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (email_id, digest)
);
