-- Give up an email whose entry killed one owner after the other; a row comes back if it is a dead letter now.
--   $1 email_id uuid   $2 error text   $3 consumer text
--
-- Not if it is in an open send: then the send decides. Nor if it changed while this waited for its lock: it may be in one
-- that was not visible yet. Content is not read.
WITH seen AS (
    SELECT id, updated_at FROM email_send_log WHERE id = $1::uuid
),
locked AS (
    SELECT id, updated_at FROM email_send_log WHERE id = $1::uuid FOR UPDATE
),
given_up AS (
    UPDATE email_send_log e
    SET status = 'FAILED', last_error = $2::text, next_attempt_at = NULL, ended_at = now(), updated_at = now()
    FROM locked l
    JOIN seen ON seen.updated_at = l.updated_at
    WHERE e.id = l.id AND e.ended_at IS NULL AND e.status <> 'SENDING'
      AND NOT EXISTS (SELECT FROM email_send_members m JOIN email_sends s ON s.id = m.send_id
                      WHERE m.email_id = e.id AND s.state = 'OPEN')
    RETURNING e.id, e.attempts, e.kind
),
buried AS (
    INSERT INTO email_dead_letters (id, email_id, reason, error, attempts)
    SELECT gen_random_uuid(), id, 'POISON', $2::text, attempts FROM given_up
    RETURNING id
),
recorded AS (
    INSERT INTO email_events (email_id, what, status, attempt, reason, consumer)
    SELECT id, 'FAILED', 'FAILED', attempts, $2::text, $3::text FROM given_up
)
SELECT b.id AS dead_letter_id, g.attempts FROM given_up g, buried b
