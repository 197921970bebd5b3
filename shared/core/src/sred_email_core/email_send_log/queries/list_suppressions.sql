-- Suppressions in force, in the order of their addresses, from a place on.
--   $1 digest bytea of the address (NULL: of any)   $2 after_address text (NULL: from the start)   $3 how many int
SELECT address, reason, created_at, expires_at
FROM email_suppressions
WHERE address IS NOT NULL AND (expires_at IS NULL OR expires_at > now())
  AND ($1::bytea IS NULL OR digest = $1)
  AND ($2::text IS NULL OR address > $2)
ORDER BY address
LIMIT $3
