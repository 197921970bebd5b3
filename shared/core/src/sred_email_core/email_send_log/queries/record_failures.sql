-- Record what became of requests that were not accepted; one row comes back for each email of each send that the caller
-- held, with what became of it.
--   Of each send:
--   $1 send_ids text[]     $2 fences bigint[]
--   $3 refused bool[]      (the request was definitely refused; else its outcome is unknown)
--   $4 counted bool[]      (it counts as an attempt)
--   $5 actions text[]      RETRY: the send stays open, to be repeated. RELEASE: it is dissolved, its emails wait alone.
--                          REJECT: it is dissolved, its emails become dead letters. BURY: its emails become dead
--                          letters and it stays, so that a replay can repeat it. EXPIRE: it is dissolved, its emails
--                          end as EXPIRED.
--   $6 delays interval[]   (RETRY, RELEASE: until the next attempt)
--   $7 errors text[]       $8 reasons text[] (REJECT, BURY: of the dead letter)   $9 keys_spent bool[]
--   $10 alone bool[]       (RELEASE: its emails share no request any more)
--   Of all: $11 consumer text   $12 horizon interval
--
-- Fenced: a send whose fence has moved on is another owner's, and is left alone. One whose lease was given back under
-- this very fence was recorded before and the answer lost: what was recorded then is told again. A send that may still
-- have been accepted is only dissolved when its one email has expired: RELEASE and REJECT become RETRY, told back as such. A new
-- key follows each dissolved send.
WITH told AS (
    SELECT *
    FROM unnest($1::text[], $2::bigint[], $3::bool[], $4::bool[], $5::text[], $6::interval[], $7::text[], $8::text[],
                $9::bool[], $10::bool[])
        AS t (send_id, fence, refused, counted, asked, delay, error, reason, key_spent, alone)
),
emails AS (
    SELECT id, last_error
    FROM email_send_log
    WHERE id IN (SELECT email_id FROM email_send_members WHERE send_id = ANY ($1::text[]))
    ORDER BY id
    FOR UPDATE
),
held AS (
    SELECT s.id, s.requests_begun > s.requests_refused + t.refused::int OR s.owners > 1 AS stays_maybe_accepted,
           s.first_post_at, t.*,
           CASE WHEN t.asked IN ('RELEASE', 'REJECT')
                     AND (s.requests_begun > s.requests_refused + t.refused::int OR s.owners > 1)
                THEN 'RETRY' ELSE t.asked END AS action
    FROM email_sends s
    JOIN told t ON t.send_id = s.id AND t.fence = s.fence
    WHERE s.state = 'OPEN' AND s.lease_expires_at IS NOT NULL
      AND (SELECT count(*) FROM emails) >= 0 -- they are locked first, here as everywhere
    ORDER BY s.id
    FOR UPDATE OF s
),
kept AS (
    UPDATE email_sends s
    SET state = CASE WHEN h.action = 'BURY' THEN 'DEAD' ELSE 'OPEN' END,
        requests_refused = s.requests_refused + h.refused::int,
        first_post_at = CASE WHEN h.stays_maybe_accepted THEN s.first_post_at END,
        key_spent = s.key_spent OR h.key_spent,
        lease_expires_at = NULL,
        updated_at = now()
    FROM held h
    WHERE s.id = h.id AND h.action IN ('RETRY', 'BURY')
),
members AS (
    SELECT m.email_id, h.*
    FROM email_send_members m
    JOIN held h ON h.id = m.send_id
),
dissolved AS (
    DELETE FROM email_sends s USING held h WHERE s.id = h.id AND h.action IN ('RELEASE', 'REJECT', 'EXPIRE')
),
left_ AS (
    DELETE FROM email_send_members m USING held h
    WHERE m.send_id = h.id AND h.action IN ('RELEASE', 'REJECT', 'EXPIRE')
),
changed AS (
    UPDATE email_send_log e
    SET status = CASE WHEN m.action IN ('REJECT', 'BURY') THEN 'FAILED' WHEN m.action = 'EXPIRE' THEN 'EXPIRED'
                      ELSE 'RETRYING' END,
        attempts = e.attempts + m.counted::int,
        generation = e.generation + (m.action IN ('RELEASE', 'REJECT', 'EXPIRE'))::int,
        alone = e.alone OR (m.action = 'RELEASE' AND m.alone),
        last_error = m.error,
        next_attempt_at = CASE WHEN m.action IN ('RETRY', 'RELEASE') THEN now() + m.delay END,
        ended_at = CASE WHEN m.action IN ('REJECT', 'BURY', 'EXPIRE') THEN now() END,
        message = CASE WHEN m.action <> 'EXPIRE' THEN e.message END,
        updated_at = now()
    FROM members m
    WHERE e.id = m.email_id AND e.ended_at IS NULL
    RETURNING e.id, e.status, e.attempts, m.action, m.counted, m.error, m.reason, m.stays_maybe_accepted, m.first_post_at
),
buried AS (
    INSERT INTO email_dead_letters (id, email_id, reason, error, attempts, may_have_been_accepted, repeatable_until)
    SELECT gen_random_uuid(), id, reason, error, attempts, stays_maybe_accepted,
           CASE WHEN stays_maybe_accepted THEN first_post_at + $12::interval END
    FROM changed
    WHERE action IN ('REJECT', 'BURY')
    RETURNING id, email_id
),
recorded AS (
    INSERT INTO email_events (email_id, what, status, attempt, reason, consumer)
    SELECT id,
           CASE WHEN action IN ('REJECT', 'BURY') THEN 'FAILED' WHEN action = 'EXPIRE' THEN 'EXPIRED'
                WHEN counted THEN 'ATTEMPT_FAILED' ELSE 'POSTPONED' END,
           status, attempts, error, $11::text
    FROM changed
    WHERE counted OR action NOT IN ('RETRY', 'RELEASE') -- one that is put off again and again is told once
       OR error IS DISTINCT FROM (SELECT l.last_error FROM emails l WHERE l.id = changed.id)
       OR status IS DISTINCT FROM (SELECT v.status FROM email_events v WHERE v.email_id = changed.id
                                   ORDER BY v.sequence DESC LIMIT 1) -- after a replay, or a claim that was undone
)
SELECT h.id AS send_id, h.action, m.email_id, b.id AS dead_letter_id
FROM held h
LEFT JOIN members m ON m.id = h.id
LEFT JOIN buried b ON b.email_id = m.email_id
UNION ALL
SELECT s.id, CASE s.state WHEN 'DEAD' THEN 'BURY' ELSE 'RETRY' END, m.email_id, d.id
FROM told t
JOIN email_sends s ON s.id = t.send_id AND s.fence = t.fence AND s.lease_expires_at IS NULL
JOIN email_send_members m ON m.send_id = s.id
LEFT JOIN email_dead_letters d ON d.email_id = m.email_id AND d.resolved_at IS NULL
