-- What has changed in the list of suppressions since a version, in order; always at least one row, which tells the version
-- that the list has now; 1: nothing ever was in it.
--   $1 since bigint   $2 about how many int (changes of one version come together)
--
-- removed: the address is free again.
SELECT o.version AS list_version, c.version, c.digest, c.address IS NULL AS removed, c.expires_at
FROM (SELECT coalesce((SELECT version FROM email_operation_settings WHERE name = 'suppressions'), 1) AS version) o
LEFT JOIN (SELECT version, digest, address, expires_at
           FROM email_suppressions
           WHERE version > $1
           ORDER BY version
           FETCH FIRST ($2::int) ROWS WITH TIES) c ON true
ORDER BY c.version
