-- The traces that emails belong to, of those that belong to one.
--   $1 ids uuid[]
SELECT id, traceparent
FROM email_send_log
WHERE id = ANY ($1::uuid[]) AND traceparent IS NOT NULL
