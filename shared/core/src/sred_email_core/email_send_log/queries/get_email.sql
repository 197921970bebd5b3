-- One email, by its id or by its idempotency key; the other parameter is NULL.
--   $1 id uuid   $2 idempotency_key text
SELECT id, idempotency_key, kind, priority, from_address, recipients, subject, status, attempts, last_error,
       provider_message_id, delivery, created_at, send_at, expire_at, sent_at, updated_at,
       CASE WHEN status IN ('SCHEDULED', 'RETRYING') THEN next_attempt_at END AS next_attempt_at,
       caller
FROM email_send_log
WHERE id = $1::uuid OR idempotency_key = $2::text
