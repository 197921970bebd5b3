-- Remove letters of entries that were no emails, which were handled long enough ago; a row comes back for each.
--   $1 older_than interval   $2 how many int
DELETE FROM email_dead_letters
WHERE id IN (SELECT id FROM email_dead_letters
             WHERE email_id IS NULL AND resolved_at < now() - $1::interval
             ORDER BY resolved_at LIMIT $2 FOR UPDATE SKIP LOCKED)
RETURNING id
