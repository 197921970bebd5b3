-- Close emails that the provider has accepted, whoever learned it and whatever their state; one row for each closed.
--   $1 email_ids uuid[]   $2 provider_message_ids text[]   $3 send_ids text[] (of each email)   $4 consumer text
--
-- No fence: a 200 is a fact. It wins over EXPIRED and over a dead letter, which is resolved. Emails that had already
-- ended as SUCCESS are left as they are, so that the record may be repeated.
WITH told AS (
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[]) AS t (email_id, provider_message_id, send_id)
),
locked AS (
    SELECT id
    FROM email_send_log
    WHERE id IN (SELECT email_id FROM told)
    ORDER BY id
    FOR UPDATE
),
closed AS (
    UPDATE email_send_log e
    SET status = 'SUCCESS', delivery = coalesce(e.delivery, 'SENT'), provider_message_id = t.provider_message_id,
        attempts = e.attempts + 1, last_error = NULL, next_attempt_at = NULL, message = NULL,
        sent_at = now(), ended_at = now(), updated_at = now()
    FROM told t
    JOIN locked l ON l.id = t.email_id
    WHERE e.id = t.email_id AND e.status <> 'SUCCESS'
    RETURNING e.id, e.attempts, e.provider_message_id
),
left_ AS (
    DELETE FROM email_send_members m
    USING told t
    WHERE m.email_id = t.email_id AND m.send_id = t.send_id
),
done AS (
    DELETE FROM email_sends s
    WHERE s.id IN (SELECT send_id FROM told)
      AND NOT EXISTS (SELECT FROM email_send_members m
                      WHERE m.send_id = s.id AND m.email_id NOT IN (SELECT email_id FROM told))
),
resolved AS (
    UPDATE email_dead_letters d
    SET resolution = 'DELIVERED', resolved_at = now()
    FROM told t
    WHERE d.email_id = t.email_id AND d.resolved_at IS NULL
    RETURNING d.id, d.email_id
),
recorded AS (
    INSERT INTO email_events (email_id, what, status, attempt, provider_message_id, consumer)
    SELECT id, 'SENT', 'SUCCESS', attempts, provider_message_id, $4::text FROM closed
)
SELECT c.id AS email_id, r.id AS dead_letter_id
FROM closed c
LEFT JOIN resolved r ON r.email_id = c.id
