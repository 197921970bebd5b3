-- Let an address get email again; a row comes back if it was suppressed.
--   $1 digest bytea
WITH renewed AS (
    INSERT INTO email_operation_settings AS o (name, version) VALUES ('suppressions', 2)
    ON CONFLICT (name) DO UPDATE SET version = o.version + 1
    RETURNING version
),
freed AS (
    UPDATE email_suppressions s
    SET address = NULL, expires_at = NULL, changed_at = now(), version = r.version
    FROM renewed r, email_suppressions p
    WHERE p.digest = $1::bytea AND p.address IS NOT NULL AND s.digest = p.digest
    RETURNING p.expires_at
)
SELECT true AS was_suppressed FROM freed WHERE expires_at IS NULL OR expires_at > now()
