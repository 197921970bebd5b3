-- Open dead letters of one group, the latest first, from a place on.
--   $1 reason text   $2 error_group text   $3 kind text (NULL: any)
--   $4 before_failed_at timestamptz, $5 before_id uuid (NULL: from the latest)   $6 how many int
--
-- Beside list_latest_dead_letters.sql, since a plan for any filter would read all letters to find those of a rare group.
SELECT d.id, d.email_id, d.reason, d.error, d.error_group, d.attempts, d.failed_at, d.may_have_been_accepted, d.repeatable_until,
       e.kind, e.recipients, e.subject
FROM email_dead_letters d
LEFT JOIN email_send_log e ON e.id = d.email_id
WHERE d.resolved_at IS NULL AND d.reason = $1 AND d.error_group = $2
  AND ($3::text IS NULL OR e.kind = $3)
  AND ($4::timestamptz IS NULL OR (d.failed_at, d.id) < ($4, $5::uuid))
ORDER BY d.failed_at DESC, d.id DESC
LIMIT $6
