-- Record what a 200 said about the emails of whole sends, whoever learned it and whatever their state.
--   Of each email that the provider accepted:
--   $1 email_ids uuid[]   $2 provider_message_ids text[]   $3 send_ids text[]
--   Of each email that it refused within an accepted batch:
--   $4 email_ids uuid[]   $5 errors text[]   $6 send_ids text[]
--   Of all: $7 consumer text
--
-- One row comes back for each email: had_failed says that it was a dead letter, dead_letter_id which one where this
-- statement resolved it. No fence: a 200 is a fact, the same for everybody who asks with this key. It wins over EXPIRED
-- and over a dead letter. Emails that had already ended as SUCCESS are left as they are, so that the record may be
-- repeated. A refused email leaves its send and goes alone, under a new key.
WITH accepted AS (
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[]) AS t (email_id, provider_message_id, send_id)
),
refused AS (
    SELECT * FROM unnest($4::uuid[], $5::text[], $6::text[]) AS t (email_id, error, send_id)
),
answered AS (
    SELECT email_id, provider_message_id, NULL AS error FROM accepted
    UNION ALL
    SELECT email_id, NULL, error FROM refused
),
-- The answer travels with the lock: joined to it afterwards, it was compared with every locked row.
locked AS (
    SELECT e.id, e.status, e.ended_at, e.status = 'SUCCESS' AND e.message IS NOT NULL AS keeps_content,
           a.provider_message_id, a.error
    FROM answered a
    JOIN email_send_log e ON e.id = a.email_id
    ORDER BY e.id
    FOR UPDATE OF e
),
closed AS (
    UPDATE email_send_log e
    SET status = 'SUCCESS', delivery = coalesce(e.delivery, 'SENT'), provider_message_id = l.provider_message_id,
        attempts = e.attempts + 1, last_error = NULL, next_attempt_at = NULL, message = NULL,
        sent_at = now(), ended_at = now(), updated_at = now()
    FROM locked l
    WHERE e.id = l.id AND l.error IS NULL AND e.status <> 'SUCCESS'
    RETURNING e.id, e.attempts, e.provider_message_id
),
-- Closed before by an event of the provider; its content stayed for the sake of the others of its send.
forgotten AS (
    UPDATE email_send_log e
    SET message = NULL
    WHERE e.id = ANY (ARRAY(SELECT id FROM locked WHERE keeps_content))
),
left_ AS (
    DELETE FROM email_send_members m
    WHERE m.send_id = ANY (ARRAY(SELECT send_id FROM accepted UNION SELECT send_id FROM refused))
    RETURNING m.email_id
),
done AS (
    DELETE FROM email_sends s
    WHERE s.id = ANY (ARRAY(SELECT send_id FROM accepted UNION SELECT send_id FROM refused))
),
released AS (
    UPDATE email_send_log e
    SET status = CASE WHEN e.ended_at IS NULL THEN 'RETRYING' ELSE e.status END,
        attempts = e.attempts + 1, generation = e.generation + 1, alone = true, last_error = l.error,
        next_attempt_at = CASE WHEN e.ended_at IS NULL THEN now() END, updated_at = now()
    FROM locked l
    JOIN left_ m ON m.email_id = l.id
    WHERE e.id = l.id AND l.error IS NOT NULL AND e.status <> 'SUCCESS'
    RETURNING e.id, e.attempts, e.status, e.last_error
),
resolved AS (
    UPDATE email_dead_letters d
    SET resolution = 'DELIVERED', resolved_at = now()
    FROM accepted t
    WHERE d.email_id = t.email_id AND d.resolved_at IS NULL
    RETURNING d.id, d.email_id
),
certain AS (
    UPDATE email_dead_letters d
    SET may_have_been_accepted = false, repeatable_until = NULL
    FROM released r
    WHERE d.email_id = r.id AND d.resolved_at IS NULL
),
recorded AS (
    INSERT INTO email_events (email_id, what, status, attempt, provider_message_id, reason, consumer)
    SELECT id, 'SENT', 'SUCCESS', attempts, provider_message_id, NULL, $7::text FROM closed
    UNION ALL
    SELECT id, 'ATTEMPT_FAILED', status, attempts, NULL, last_error, $7::text FROM released
)
SELECT l.id AS email_id, l.status = 'FAILED' AS had_failed, r.id AS dead_letter_id
FROM locked l
LEFT JOIN resolved r ON r.email_id = l.id
