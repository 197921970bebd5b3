-- Pause lanes; of one that is paused, renew the reason.
--   $1 lanes text[]   $2 reason text
WITH renewed AS (
    INSERT INTO email_operation_settings AS s (name) VALUES ('pauses')
    ON CONFLICT (name) DO UPDATE SET version = s.version + 1
    RETURNING version
),
paused AS (
    INSERT INTO email_pauses (lane, reason)
    SELECT lane, $2::text FROM unnest($1::text[]) AS l (lane) ORDER BY lane
    ON CONFLICT (lane) DO UPDATE SET reason = excluded.reason
    RETURNING lane
)
SELECT version FROM renewed WHERE (SELECT count(*) FROM paused) >= 0
