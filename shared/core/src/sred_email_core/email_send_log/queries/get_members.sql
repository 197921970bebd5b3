-- The emails of sends, in order, with their frozen contents.
--   $1 send_ids text[]
SELECT m.send_id, m.position, e.id AS email_id, e.kind, e.priority, e.status, e.attempts, e.created_at, e.expire_at, e.send_at, e.traceparent, e.message,
       m.left_out
FROM email_send_members m
JOIN email_send_log e ON e.id = m.email_id
WHERE m.send_id = ANY ($1::text[])
ORDER BY m.send_id, m.position
