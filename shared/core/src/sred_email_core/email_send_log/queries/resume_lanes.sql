-- Resume lanes.
--   $1 lanes text[]
WITH renewed AS (
    INSERT INTO email_operation_settings AS s (name) VALUES ('pauses')
    ON CONFLICT (name) DO UPDATE SET version = s.version + 1
    RETURNING version
),
resumed AS (
    DELETE FROM email_pauses WHERE lane = ANY ($1::text[])
)
SELECT version FROM renewed
