-- Accept emails whose idempotency keys are free; one row comes back for each that was.
--   $1 ids uuid[]            $2 idempotency_keys text[]   $3 fingerprints bytea[] (32 bytes each)
--   $4 kinds text[]          $5 priorities text[]         $6 from_addresses text[]
--   $7 recipients text[]     (the addresses of one email, separated by line feeds)
--   $8 subjects text[]       $9 messages bytea[]          (serialized EmailContent)
--   $10 expire_ats timestamptz[] (NULL: after the lifetime)
--   $11 lifetimes interval[] (from now, or from its scheduled time; NULL: it never expires)
--   $12 send_ats timestamptz[] (NULL, or in the past: now)
--   $13 callers text[]       (NULL: authentication is off)
--   $14 traceparents text[]  (NULL: of no trace)
--
-- Rows go in by key, so that two statements with keys in common wait for each other in one direction only.
-- A key that is missing from the answer is held: by a row of another transaction, maybe too new for this snapshot,
-- or by an earlier row of this same statement. find_by_keys, run afterwards, sees both.
WITH offered AS (
    SELECT *
    FROM unnest($1::uuid[], $2::text[], $3::bytea[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::bytea[],
                $10::timestamptz[], $11::interval[], $12::timestamptz[], $13::text[], $14::text[])
        AS o (id, idempotency_key, fingerprint, kind, priority, from_address, recipients, subject, message, expire_at, lifetime,
              send_at, caller, traceparent)
),
accepted AS (
    INSERT INTO email_send_log (id, idempotency_key, fingerprint, kind, priority, status, from_address, recipients,
                                subject, message, expire_at, send_at, next_attempt_at, caller,
                                traceparent)
    SELECT id, idempotency_key, fingerprint, kind, priority, CASE WHEN send_at > now() THEN 'SCHEDULED' ELSE 'QUEUED' END,
           from_address, string_to_array(recipients, E'\n'), subject, message,
           coalesce(expire_at, greatest(now(), send_at) + lifetime), send_at, CASE WHEN send_at > now() THEN send_at END,
           caller, traceparent
    FROM offered
    ORDER BY idempotency_key
    ON CONFLICT (idempotency_key) DO NOTHING
    RETURNING id, created_at, expire_at, status, send_at
),
told AS (
    INSERT INTO email_events (email_id, what, status)
    SELECT id, 'ACCEPTED', status FROM accepted
)
SELECT id, created_at, expire_at, CASE WHEN status = 'SCHEDULED' THEN send_at - now() END AS delay FROM accepted
