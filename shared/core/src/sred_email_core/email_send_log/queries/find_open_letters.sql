-- Open dead letters, oldest first, from a place on.
--   $1 after_failed_at timestamptz, $2 after_id uuid (NULL: from the start)   $3 how many int
--   $4 most bytes of content to read of an email int
--
-- size_bytes: what load_letters reads of it.
SELECT d.id, d.email_id, d.failed_at, coalesce(e.status = 'SUCCESS', false) AS delivered,
       coalesce(octet_length(d.raw_entry), least(octet_length(e.message), $4), 0)::bigint AS size_bytes
FROM email_dead_letters d
LEFT JOIN email_send_log e ON e.id = d.email_id
WHERE d.resolved_at IS NULL
  AND ($1::timestamptz IS NULL OR (d.failed_at, d.id) > ($1, $2::uuid))
ORDER BY d.failed_at, d.id
LIMIT $3
