-- Close dead letters for good, and forget what they hold; one row comes back for each that was open.
--   $1 ids uuid[] (their emails, and the sends of these, are locked by this transaction: lock_emails_and_siblings,
--   lock_sends_of)   $2 resolution text   $3 note text (NULL: none)   $4 horizon interval
--
-- Their emails stay as they ended. A content that others need stays, until they need it no more: a send that may have been
-- accepted and is within its horizon is repeated whole, with the same bytes, or not at all. A replay of another of its
-- emails repeats this one with it.
WITH letters AS (
    SELECT id, email_id
    FROM email_dead_letters
    WHERE id = ANY ($1::uuid[]) AND resolved_at IS NULL
    ORDER BY id
    FOR UPDATE
),
given_up AS (
    SELECT e.id AS email_id, e.attempts, m.send_id
    FROM letters l
    JOIN email_send_log e ON e.id = l.email_id AND e.status = 'FAILED'
    LEFT JOIN email_send_members m ON m.email_id = e.id
),
members AS (
    SELECT m.email_id, m.send_id,
           m.email_id NOT IN (SELECT email_id FROM given_up)
           AND (o.ended_at IS NULL
                OR (o.status = 'FAILED' AND o.message IS NOT NULL
                    AND EXISTS (SELECT FROM email_dead_letters d WHERE d.email_id = m.email_id AND d.resolved_at IS NULL))) AS needed
    FROM email_send_members m
    JOIN email_send_log o ON o.id = m.email_id
    WHERE m.send_id IN (SELECT send_id FROM given_up)
),
kept AS (
    SELECT DISTINCT m.send_id
    FROM members m
    JOIN email_sends s ON s.id = m.send_id
    WHERE m.needed AND (s.state = 'OPEN' OR (s.maybe_accepted AND NOT s.key_spent AND s.first_post_at + $4::interval > now()))
),
leaving AS (
    SELECT email_id, send_id FROM members WHERE NOT needed AND send_id NOT IN (SELECT send_id FROM kept)
),
forgotten AS (
    UPDATE email_send_log e
    SET message = NULL
    WHERE e.id IN (SELECT email_id FROM leaving UNION ALL SELECT email_id FROM given_up WHERE send_id IS NULL)
      AND e.message IS NOT NULL
),
left_ AS (
    DELETE FROM email_send_members m USING leaving l WHERE m.email_id = l.email_id
),
done AS (
    DELETE FROM email_sends s
    WHERE s.id IN (SELECT send_id FROM leaving)
      AND NOT EXISTS (SELECT FROM members m WHERE m.send_id = s.id AND m.needed)
),
told AS (
    INSERT INTO email_events (email_id, what, status, attempt, reason)
    SELECT email_id, $2::text, 'FAILED', attempts, $3 FROM given_up
),
closed AS (
    UPDATE email_dead_letters d
    SET resolution = $2, resolved_at = now(), note = $3::text, raw_entry = NULL
    FROM letters l
    WHERE d.id = l.id
    RETURNING d.id
)
SELECT id::text AS dead_letter_id FROM closed
