-- End emails of whose recipients in "to" none may get email, and that are in no open send; one row comes back for each.
--   $1 email_ids uuid[]   $2 consumer text
--
-- An email that changed while this waited for its lock is left alone: it may be in a send that was not visible yet.
WITH seen AS (
    SELECT id, updated_at FROM email_send_log WHERE id = ANY ($1::uuid[])
),
locked AS (
    SELECT id, updated_at
    FROM email_send_log
    WHERE id = ANY ($1::uuid[])
    ORDER BY id
    FOR UPDATE
),
suppressed AS (
    UPDATE email_send_log e
    SET status = 'SUPPRESSED', last_error = 'every recipient in "to" is suppressed', message = NULL,
        next_attempt_at = NULL, ended_at = now(), updated_at = now()
    FROM locked l
    JOIN seen ON seen.id = l.id AND seen.updated_at = l.updated_at
    WHERE e.id = l.id AND e.ended_at IS NULL AND e.status <> 'SENDING'
      AND (e.next_attempt_at IS NULL OR e.next_attempt_at <= now() + interval '1 s')
      AND NOT EXISTS (SELECT FROM email_send_members m JOIN email_sends s ON s.id = m.send_id
                      WHERE m.email_id = e.id AND s.state = 'OPEN')
    RETURNING e.id, e.attempts, e.last_error
),
recorded AS (
    INSERT INTO email_events (email_id, what, status, attempt, reason, consumer)
    SELECT id, 'SUPPRESSED', 'SUPPRESSED', attempts, last_error, $2::text FROM suppressed
)
SELECT id FROM suppressed
