-- Emails that wait to be sent for the first time or alone, from an id on, in order of acceptance.
--   $1 after_id uuid (NULL: from the start)   $2 older_than interval   $3 how many int
--
-- An email in a send is not among them: its place is the send's. Nor is one that waits for a retry that is not due:
-- if its place is lost, it is found when it is.
SELECT e.id, e.kind, e.priority, e.created_at, e.expire_at, e.message
FROM email_send_log e
WHERE e.ended_at IS NULL
  AND e.status IN ('QUEUED', 'RETRYING')
  AND e.message IS NOT NULL
  AND e.updated_at < now() - $2::interval
  AND (e.next_attempt_at IS NULL OR e.next_attempt_at < now() - $2::interval)
  AND ($1::uuid IS NULL OR e.id > $1)
  AND NOT EXISTS (SELECT FROM email_send_members m WHERE m.email_id = e.id)
ORDER BY e.id
LIMIT $3
