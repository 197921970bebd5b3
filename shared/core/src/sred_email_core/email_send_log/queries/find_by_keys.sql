-- The emails that hold these idempotency keys.
--   $1 idempotency_keys text[]   $2 ahead interval
--
-- The message comes along only while the email waits to be taken, or is scheduled for within that while, when a duplicate
-- call may have to publish it: with the delay, for it is not due before.
SELECT id, idempotency_key, fingerprint, kind, priority, status, created_at, expire_at, alone, traceparent,
       CASE WHEN status = 'QUEUED' OR status = 'SCHEDULED' AND send_at <= now() + $2::interval THEN message END AS message,
       greatest(send_at - now(), interval '0') AS delay
FROM email_send_log
WHERE idempotency_key = ANY ($1::text[])
