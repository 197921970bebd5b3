-- Resolve the open dead letters of emails that were sent after all; one row comes back for each.
--   $1 email_ids uuid[]
--
-- A statement of its own: a letter that was written while the one that closed its email waited for its lock was not
-- visible to it.
UPDATE email_dead_letters d
SET resolution = 'DELIVERED', resolved_at = now()
FROM email_send_log e
WHERE e.id = ANY ($1::uuid[]) AND e.status = 'SUCCESS' AND d.email_id = e.id AND d.resolved_at IS NULL
RETURNING d.id AS dead_letter_id, d.email_id
