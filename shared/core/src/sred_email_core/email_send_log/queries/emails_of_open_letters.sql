-- The emails of dead letters that are open.
--   $1 ids uuid[]
SELECT email_id
FROM email_dead_letters
WHERE id = ANY ($1::uuid[]) AND resolved_at IS NULL AND email_id IS NOT NULL
ORDER BY email_id
