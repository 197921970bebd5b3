-- Suppress addresses; one row comes back for each whose suppression was made or changed.
--   $1 digests bytea[]   $2 addresses text[]   $3 reasons text[]   $4 occurred_ats timestamptz[]
--   Of all: $5 source text   $6 expires_at timestamptz   $7 replaces bool
--
-- Where it replaces, what was there gives way. Else a suppression in force stays, but a complaint is worse than a bounce;
-- and an address that was freed later than this occurred stays free: whoever did that knew more. The row that counts
-- versions is locked first, so that versions are committed in their order.
WITH renewed AS (
    INSERT INTO email_operation_settings AS o (name, version) VALUES ('suppressions', 2)
    ON CONFLICT (name) DO UPDATE SET version = o.version + 1
    RETURNING version
)
INSERT INTO email_suppressions AS s (digest, address, reason, source, expires_at, version)
SELECT a.digest, a.address, a.reason, $5::text, $6::timestamptz, r.version
FROM renewed r, unnest($1::bytea[], $2::text[], $3::text[], $4::timestamptz[]) AS a (digest, address, reason, occurred_at)
WHERE $7 OR NOT EXISTS (SELECT FROM email_suppressions p
                        WHERE p.digest = a.digest AND p.address IS NULL AND p.changed_at > a.occurred_at)
ORDER BY a.digest
ON CONFLICT (digest) DO UPDATE
SET address = excluded.address, reason = excluded.reason, source = excluded.source, expires_at = excluded.expires_at,
    created_at = CASE WHEN s.address IS NULL OR s.expires_at <= now() THEN now() ELSE s.created_at END,
    changed_at = now(), version = excluded.version
WHERE $7 OR s.address IS NULL OR s.expires_at IS NOT NULL OR (s.reason = 'BOUNCED' AND excluded.reason = 'COMPLAINED')
RETURNING s.address, s.reason, s.created_at, s.expires_at
