-- One open dead letter.
--   $1 id uuid
SELECT d.id, d.email_id, d.reason, d.error, d.error_group, d.attempts, d.failed_at, d.may_have_been_accepted, d.repeatable_until,
       e.kind, e.recipients, e.subject
FROM email_dead_letters d
LEFT JOIN email_send_log e ON e.id = d.email_id
WHERE d.id = $1::uuid AND d.resolved_at IS NULL
