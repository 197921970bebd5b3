-- What happened to one email, oldest first.
--   $1 email_id uuid
SELECT what, status, at, attempt, reason, provider_message_id, consumer
FROM email_events
WHERE email_id = $1::uuid
ORDER BY sequence
