-- Give back claims whose POST was not begun, as if they had not been made.
--   $1 send_ids text[]   $2 fences bigint[]
--
-- Only the claim with the send's present fence is undone. A send that has begun nothing is dissolved, its key kept for
-- the next one; one that had begun requests before stays open, free, to be repeated. An event is written where the email
-- is not in the state that the last one told of; SENDING, which the claim made it, is no event.
WITH asked AS (
    SELECT * FROM unnest($1::text[], $2::bigint[]) AS a (send_id, fence)
),
emails AS (
    SELECT id
    FROM email_send_log
    WHERE id IN (SELECT email_id FROM email_send_members WHERE send_id = ANY ($1::text[]))
    ORDER BY id
    FOR UPDATE
),
held AS (
    SELECT s.id, s.requests_begun
    FROM email_sends s
    JOIN asked a ON a.send_id = s.id AND a.fence = s.fence
    WHERE s.state = 'OPEN' AND s.lease_expires_at IS NOT NULL
      AND (SELECT count(*) FROM emails) >= 0 -- they are locked first, here as everywhere
    ORDER BY s.id
    FOR UPDATE OF s
),
kept AS (
    UPDATE email_sends s
    SET requests_begun = s.requests_begun - 1, lease_expires_at = NULL, updated_at = now(),
        first_post_at = CASE WHEN s.requests_begun - 1 > s.requests_refused OR s.owners > 1 THEN s.first_post_at END
    FROM held h
    WHERE s.id = h.id AND h.requests_begun > 1
),
dissolved AS (
    DELETE FROM email_sends s
    USING held h
    WHERE s.id = h.id AND h.requests_begun <= 1
),
left_ AS (
    DELETE FROM email_send_members m
    USING held h
    WHERE m.send_id = h.id AND h.requests_begun <= 1
),
freed AS (
    UPDATE email_send_log e
    SET status = CASE WHEN h.requests_begun > 1 OR e.attempts > 0 THEN 'RETRYING' ELSE 'QUEUED' END, updated_at = now()
    FROM held h, email_send_members m
    WHERE m.send_id = h.id AND e.id = m.email_id AND e.status = 'SENDING'
    RETURNING e.id, e.status, e.attempts
),
recorded AS (
    INSERT INTO email_events (email_id, what, status, attempt)
    SELECT id, 'HANDED_BACK', status, attempts
    FROM freed
    WHERE status IS DISTINCT FROM (SELECT v.status FROM email_events v WHERE v.email_id = freed.id
                                   ORDER BY v.sequence DESC LIMIT 1)
)
SELECT id FROM held
