-- Keep stream entries that are no emails as dead letters; one row comes back for each, new or kept before.
--   $1 ids uuid[]   $2 errors text[]   $3 raw_entries bytea[] (serialized RawStreamEntry)
--   $4 source_streams text[]   $5 source_entry_ids text[]   $6 named_email_ids uuid[] (NULL: the entry names none)
--
-- An entry that is read twice is one letter, and so are entries that name the same email. A letter that is missing from
-- the answer was written by another at the same moment: asked again, it is told.
WITH told AS (
    SELECT DISTINCT ON (source_stream, source_entry_id) *
    FROM unnest($1::uuid[], $2::text[], $3::bytea[], $4::text[], $5::text[], $6::uuid[])
        AS t (id, error, raw_entry, source_stream, source_entry_id, named_email_id)
),
known AS (
    SELECT t.source_stream, t.source_entry_id, d.id
    FROM told t
    JOIN email_dead_letters d ON (d.source_stream = t.source_stream AND d.source_entry_id = t.source_entry_id)
                              OR (d.named_email_id = t.named_email_id AND d.resolved_at IS NULL)
),
kept AS (
    INSERT INTO email_dead_letters (id, reason, error, raw_entry, source_stream, source_entry_id, named_email_id)
    SELECT id, 'MALFORMED', error, raw_entry, source_stream, source_entry_id, named_email_id
    FROM told t
    WHERE NOT EXISTS (SELECT FROM known k
                      WHERE k.source_stream = t.source_stream AND k.source_entry_id = t.source_entry_id)
    ORDER BY source_stream, source_entry_id
    ON CONFLICT DO NOTHING
    RETURNING id, source_stream, source_entry_id
)
SELECT id, source_stream, source_entry_id FROM kept
UNION ALL
SELECT id, source_stream, source_entry_id FROM known
