-- How many dead letters are open.
--   $1 reason text (NULL: any)
SELECT count(*)::bigint AS dead_letters
FROM email_dead_letters
WHERE resolved_at IS NULL AND ($1::text IS NULL OR reason = $1)
