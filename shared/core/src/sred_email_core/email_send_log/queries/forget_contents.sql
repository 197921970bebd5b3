-- Forget what open letters hold that were written long enough ago; one row comes back for each letter.
--   $1 older_than interval (longer than any horizon)   $2 how many int
--
-- The letter stays open, for a person to close it. It comes back until note_contents_left tells that Redis has forgotten it
-- too. Emails are locked first, here as everywhere; those that another transaction works on are passed over.
WITH letters AS MATERIALIZED (
    SELECT id, email_id
    FROM email_dead_letters
    WHERE resolved_at IS NULL AND failed_at < now() - $1::interval AND content_left_at IS NULL
    ORDER BY failed_at, id
    LIMIT $2
),
emails AS MATERIALIZED (
    SELECT id
    FROM email_send_log
    WHERE id IN (SELECT email_id FROM letters) AND status = 'FAILED' AND ended_at < now() - $1
    ORDER BY id
    FOR UPDATE SKIP LOCKED
),
forgotten AS (
    UPDATE email_send_log e SET message = NULL FROM emails x WHERE e.id = x.id AND e.message IS NOT NULL
),
emptied AS (
    UPDATE email_dead_letters d SET raw_entry = NULL
    FROM letters l
    WHERE d.id = l.id AND d.email_id IS NULL AND d.raw_entry IS NOT NULL
)
SELECT id::text AS dead_letter_id FROM letters WHERE email_id IS NULL OR email_id IN (SELECT id FROM emails)
