-- Keep a stream entry that is no email as a dead letter; a row comes back for it, new or kept before.
--   $1 id uuid   $2 error text   $3 raw_entry bytea (serialized RawStreamEntry)   $4 fields_sha256 bytea (of its fields)
--   $5 source_stream text   $6 source_entry_id text   $7 named_email_id uuid (NULL: the entry names none)
--
-- An entry that is read twice is one letter, and so are entries with the same fields that name the same email of the
-- log. No row: another wrote the letter at the same moment; asked again, it is told.
WITH told AS (
    SELECT (SELECT id FROM email_send_log WHERE id = $7::uuid) AS named_email_id
),
known AS (
    SELECT id
    FROM email_dead_letters
    WHERE source_stream = $5::text AND source_entry_id = $6::text AND fields_sha256 = $4::bytea
    UNION ALL
    SELECT d.id
    FROM email_dead_letters d
    JOIN told t ON t.named_email_id = d.named_email_id
    WHERE d.fields_sha256 = $4::bytea AND d.resolved_at IS NULL
),
kept AS (
    INSERT INTO email_dead_letters (id, reason, error, raw_entry, fields_sha256, source_stream, source_entry_id,
                                    named_email_id)
    SELECT $1::uuid, 'MALFORMED', $2::text, $3::bytea, $4::bytea, $5::text, $6::text, named_email_id
    FROM told
    WHERE NOT EXISTS (SELECT FROM known)
    ON CONFLICT DO NOTHING
    RETURNING id
)
SELECT id FROM kept
UNION ALL
(SELECT id FROM known LIMIT 1)
