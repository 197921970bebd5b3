-- What happened to one email, the earliest first; no row comes back if nobody knows it.
--   $1 email_id uuid
SELECT at, what, status, attempt, reason, provider_message_id, delivery, consumer
FROM email_events
WHERE email_id = $1::uuid
ORDER BY sequence
