-- Work that one process does at a time.

-- Who does it, until when unless it says so again. A row and not a lock of a session: behind a pooler that lends connections
-- for a transaction, a session is nobody's.
CREATE TABLE email_leases (
    name       text        PRIMARY KEY,                          -- of the work
    holder     text        NOT NULL,
    expires_at timestamptz NOT NULL
);
