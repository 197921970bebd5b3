-- The paused lanes, why and since when.
SELECT lane, reason, paused_at
FROM email_pauses
