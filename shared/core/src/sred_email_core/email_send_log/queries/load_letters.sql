-- What the DLQ shows of dead letters, of those that are open now, oldest first.
--   $1 ids uuid[]   $2 most bytes of content to read of an email int
--
-- An email's content may be gone, or too large for Redis; a stream entry that was no email is shown whole.
SELECT d.id, d.email_id, d.reason, d.error, d.attempts, d.raw_entry, e.kind, e.priority, e.created_at, e.expire_at,
       coalesce(e.alone OR octet_length(e.message) > $2, true) AS alone,
       coalesce(octet_length(e.message), 0) AS size_bytes,
       CASE WHEN octet_length(e.message) <= $2 THEN e.message END AS message
FROM email_dead_letters d
LEFT JOIN email_send_log e ON e.id = d.email_id
WHERE d.id = ANY ($1::uuid[]) AND d.resolved_at IS NULL
ORDER BY d.failed_at, d.id
