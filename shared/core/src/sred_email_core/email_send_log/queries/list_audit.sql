-- What operators did, the latest first, from a place on.
--   $1 before_sequence bigint (NULL: from the latest)   $2 how many int   $3 action text (NULL: any)
--   $4 what actor or peer holds text (NULL: anything)   $5 at or after timestamptz (NULL: any)   $6 before timestamptz (NULL: any)
SELECT sequence, at, actor, peer, action, target, detail, count
FROM email_audit
WHERE ($1::bigint IS NULL OR sequence < $1)
  AND ($3::text IS NULL OR action = $3)
  AND ($4::text IS NULL OR strpos(lower(actor || ' (' || peer || ')'), lower($4)) > 0)
  AND ($5::timestamptz IS NULL OR at >= $5)
  AND ($6::timestamptz IS NULL OR at < $6)
ORDER BY sequence DESC
LIMIT $2::int
