-- What has changed in the list of suppressions since a version, in order; always at least one row, which tells the version
-- that the list has now.
--   $1 since bigint   $2 about how many int (changes of one version come together)
--
-- removed: the address is free again.
SELECT o.version AS list_version, c.version, c.digest, c.address IS NULL AS removed, c.expires_at
FROM email_operation_settings o
LEFT JOIN (SELECT version, digest, address, expires_at
           FROM email_suppressions
           WHERE version > $1
           ORDER BY version
           FETCH FIRST ($2::int) ROWS WITH TIES) c ON true
WHERE o.name = 'suppressions'
ORDER BY c.version
