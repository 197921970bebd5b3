-- Reopen the emails of dead letters; one row comes back for each email that is to be sent again.
--   $1 ids uuid[]   $2 include_outcome_unknown bool   $3 include_poison bool   $4 horizon interval
--
-- A letter whose send may have been accepted and is within its horizon reopens the whole send: the same key, the same
-- bytes, nothing else (REPEAT). An email that was certainly refused, or whose send can't be repeated any more, goes
-- back to its stream (ANEW) and gets a new key. The count of attempts starts anew; the horizon does not.
-- Left alone: MALFORMED, and what has lost its content, always; POISON unless included; OUTCOME_UNKNOWN and sends past their horizon unless included.
WITH asked AS (
    SELECT d.email_id, m.send_id
    FROM email_dead_letters d
    LEFT JOIN email_send_members m ON m.email_id = d.email_id
    WHERE d.id = ANY ($1::uuid[]) AND d.email_id IS NOT NULL
),
emails AS (
    SELECT id
    FROM email_send_log
    WHERE id IN (SELECT email_id FROM asked UNION ALL
                 SELECT m.email_id FROM email_send_members m JOIN asked a ON a.send_id = m.send_id)
    ORDER BY id
    FOR UPDATE
),
letters AS (
    SELECT id, email_id, reason, may_have_been_accepted
    FROM email_dead_letters
    WHERE id = ANY ($1::uuid[]) AND resolved_at IS NULL AND email_id IS NOT NULL
      AND (SELECT count(*) FROM emails) >= 0 -- they are locked first, here as everywhere
    ORDER BY id
    FOR UPDATE
),
judged AS (
    SELECT l.*, s.id AS send_id,
           coalesce(s.maybe_accepted AND NOT s.key_spent AND s.first_post_at + $4::interval > now(), false) AS repeatable
    FROM letters l
    JOIN email_send_log e ON e.id = l.email_id AND e.status = 'FAILED' AND e.message IS NOT NULL
    LEFT JOIN email_send_members m ON m.email_id = l.email_id
    LEFT JOIN email_sends s ON s.id = m.send_id AND s.state = 'DEAD'
),
fit AS (
    SELECT *
    FROM judged
    WHERE (reason <> 'POISON' OR $3)
      AND ($2 OR NOT (reason = 'OUTCOME_UNKNOWN' OR (may_have_been_accepted AND NOT repeatable)))
),
reopened_sends AS (
    UPDATE email_sends s
    SET state = 'OPEN', lease_expires_at = NULL, deaths = 0, updated_at = now()
    WHERE s.id IN (SELECT send_id FROM fit WHERE repeatable)
    RETURNING s.id
),
again AS (
    SELECT m.email_id, m.send_id, m.position, 'REPEAT' AS mode
    FROM email_send_members m
    WHERE m.send_id IN (SELECT id FROM reopened_sends)
    UNION ALL
    SELECT email_id, send_id, 0, 'ANEW' FROM fit WHERE NOT repeatable
),
left_ AS (
    DELETE FROM email_send_members m
    USING fit f
    WHERE m.email_id = f.email_id AND NOT f.repeatable
),
dissolved AS (
    DELETE FROM email_sends s
    WHERE s.id IN (SELECT send_id FROM fit WHERE NOT repeatable)
      AND NOT EXISTS (SELECT FROM email_send_members m
                      WHERE m.send_id = s.id AND m.email_id NOT IN (SELECT email_id FROM fit WHERE NOT repeatable))
),
resolved AS (
    UPDATE email_dead_letters d
    SET resolution = 'REPLAYED', resolved_at = now()
    FROM again a
    WHERE d.email_id = a.email_id AND d.resolved_at IS NULL
    RETURNING d.id, d.email_id
),
reopened AS (
    UPDATE email_send_log e
    SET status = CASE WHEN a.mode = 'REPEAT' THEN 'RETRYING' ELSE 'QUEUED' END,
        attempts = 0,
        generation = e.generation + (a.mode = 'ANEW' AND a.send_id IS NOT NULL)::int,
        next_attempt_at = CASE WHEN a.mode = 'REPEAT' THEN now() END,
        ended_at = NULL,
        updated_at = now()
    FROM again a
    WHERE e.id = a.email_id AND e.status = 'FAILED' AND e.message IS NOT NULL
    RETURNING e.id, e.kind, e.priority, e.status, e.created_at, e.expire_at, e.message, e.alone, e.traceparent, a.mode, a.send_id,
              a.position
),
recorded AS (
    INSERT INTO email_events (email_id, what, status) SELECT id, 'REPLAYED', status FROM reopened
)
SELECT r.*, d.id AS dead_letter_id
FROM reopened r
LEFT JOIN resolved d ON d.email_id = r.id
ORDER BY r.send_id, r.position
