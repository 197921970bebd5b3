-- Keep stream entries that are no emails as dead letters; one row comes back for each, new or kept before.
--   $1 ids uuid[]   $2 errors text[]   $3 raw_entries bytea[] (serialized RawStreamEntry)
--   $4 source_streams text[]   $5 source_entry_ids text[]
WITH told AS (
    SELECT *
    FROM unnest($1::uuid[], $2::text[], $3::bytea[], $4::text[], $5::text[])
        AS t (id, error, raw_entry, source_stream, source_entry_id)
),
kept AS (
    INSERT INTO email_dead_letters (id, reason, error, raw_entry, source_stream, source_entry_id)
    SELECT id, 'MALFORMED', error, raw_entry, source_stream, source_entry_id
    FROM told
    ORDER BY source_stream, source_entry_id
    ON CONFLICT (source_stream, source_entry_id) DO UPDATE SET error = excluded.error
    RETURNING id, source_stream, source_entry_id
)
SELECT id, source_stream, source_entry_id FROM kept
