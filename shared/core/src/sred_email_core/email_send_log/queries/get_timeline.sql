-- What happened to one email, the earliest first; no row comes back if there is no such email.
--   $1 email_id uuid
--
-- Its acceptance is there also where the event of it is not.
WITH told AS (
    SELECT sequence, at, what, status, attempt, reason, provider_message_id, delivery, consumer
    FROM email_events
    WHERE email_id = $1::uuid
)
SELECT at, what, status, attempt, reason, provider_message_id, delivery, consumer
FROM (
    SELECT * FROM told
    UNION ALL
    SELECT 0, created_at, 'ACCEPTED', 'QUEUED', 0, NULL, NULL, NULL, NULL
    FROM email_send_log
    WHERE id = $1::uuid AND NOT EXISTS (SELECT FROM told WHERE what = 'ACCEPTED')
) t
ORDER BY sequence
