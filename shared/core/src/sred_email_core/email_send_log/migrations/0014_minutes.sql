-- How many emails were accepted, sent and given up in each minute, and how long they took: for people who look, over all
-- replicas. Counted from the events a few seconds later, so that no email pays for it.

CREATE TABLE email_minutes (
    minute timestamptz NOT NULL,
    what   text        NOT NULL CHECK (what IN ('ACCEPTED', 'SENT', 'FAILED')),
    bucket smallint    NOT NULL DEFAULT 0,                       -- SENT: how long it took, at most 2^(bucket / 3) ms
    count  bigint      NOT NULL,
    PRIMARY KEY (minute, what, bucket)
);

-- Up to which transaction events are counted. Those from before this migration are not.
CREATE TABLE email_minutes_mark (
    single_row     boolean PRIMARY KEY DEFAULT true CHECK (single_row),
    transaction_id xid8    NOT NULL                              -- the first one that is not
);
INSERT INTO email_minutes_mark (transaction_id) VALUES (pg_snapshot_xmin(pg_current_snapshot()));
