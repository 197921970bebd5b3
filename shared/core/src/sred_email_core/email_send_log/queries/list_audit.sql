-- What operators did, the latest first, from a place on.
--   $1 before_sequence bigint (NULL: from the latest)   $2 how many int
SELECT sequence, at, actor, peer, action, target, detail, count
FROM email_audit
WHERE $1::bigint IS NULL OR sequence < $1
ORDER BY sequence DESC
LIMIT $2::int
