-- Open dead letters, the latest first, from a place on.
--   $1 reason text (NULL: any)   $2 kind text (NULL: any)
--   $3 before_failed_at timestamptz, $4 before_id uuid (NULL: from the latest)   $5 how many int
SELECT d.id, d.email_id, d.reason, d.error, d.error_group, d.attempts, d.failed_at, d.may_have_been_accepted, d.repeatable_until,
       e.kind, e.recipients, e.subject
FROM email_dead_letters d
LEFT JOIN email_send_log e ON e.id = d.email_id
WHERE d.resolved_at IS NULL
  AND ($1::text IS NULL OR d.reason = $1)
  AND ($2::text IS NULL OR e.kind = $2)
  AND ($3::timestamptz IS NULL OR (d.failed_at, d.id) < ($3, $4::uuid))
ORDER BY d.failed_at DESC, d.id DESC
LIMIT $5
