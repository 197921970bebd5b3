-- The emails that hold these idempotency keys.
--   $1 idempotency_keys text[]
--
-- The message comes along only while the email waits to be taken, when a duplicate call may have to publish it.
SELECT id, idempotency_key, fingerprint, kind, priority, status, created_at, expire_at, alone,
       CASE WHEN status = 'QUEUED' THEN message END AS message
FROM email_send_log
WHERE idempotency_key = ANY ($1::text[])
