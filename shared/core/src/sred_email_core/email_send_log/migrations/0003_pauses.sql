-- Lanes whose delivery operators have paused.

CREATE TABLE email_pauses (
    lane      text        PRIMARY KEY CHECK (lane IN ('HIGH', 'NORMAL', 'LOW')),
    reason    text        NOT NULL DEFAULT '',
    paused_at timestamptz NOT NULL DEFAULT now()
);

-- Settings of operation that Redis holds copies of: of two copies, the one with the higher version is the newer.
CREATE TABLE email_operation_settings (
    name    text   PRIMARY KEY,
    version bigint NOT NULL DEFAULT 1
);
