-- Record what authentic events of the provider say about emails, one event for each email.
--   $1 email_ids uuid[] (they and their sends are locked by this transaction: lock_emails_and_siblings, lock_sends_of)
--   $2 deliveries text[]   $3 provider_message_ids text[]   $4 details text[]
--
-- A worse state is never overwritten, in whatever order the events come: SENT < DELAYED < DELIVERED < DELIVERY_FAILED <
-- BOUNCED < COMPLAINED. An event is evidence that the provider took the email: it closes as SUCCESS whatever its state,
-- and its dead letter is resolved. One row comes back for each email that was closed, and for each other email of a send
-- that ended with it: finished says that it needs no place in Redis any more.
--
-- A send goes when none of its emails is open or can be replayed. Until then it stays whole, contents included: a repeat
-- has the same bytes. What took one of its emails took the request, so no refusal clears maybe_accepted any more: the
-- event counts as a request that was begun and not refused.
WITH severity AS (
    SELECT ARRAY['SENT', 'DELAYED', 'DELIVERED', 'DELIVERY_FAILED', 'BOUNCED', 'COMPLAINED'] AS mildest_first
),
told AS (
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) AS t (email_id, delivery, provider_message_id, detail)
),
seen AS (
    SELECT e.id, e.status <> 'SUCCESS' AS closing, t.delivery,
           array_position(v.mildest_first, t.delivery) AS severity, v.mildest_first, t.provider_message_id, t.detail, s.id AS send_id,
           coalesce(s.lease_expires_at IS NOT NULL, false) AS under_way -- its request is not counted yet
    FROM told t
    CROSS JOIN severity v
    JOIN email_send_log e ON e.id = t.email_id
    LEFT JOIN (email_send_members m JOIN email_sends s ON s.id = m.send_id) ON m.email_id = e.id
),
members AS (
    SELECT m.email_id, m.send_id, m.position, o.ended_at IS NULL OR (o.status = 'FAILED' AND o.message IS NOT NULL) AS needed
    FROM email_send_members m
    JOIN email_send_log o ON o.id = m.email_id
    WHERE m.send_id = ANY (ARRAY(SELECT send_id FROM seen WHERE closing))
),
kept AS (
    SELECT DISTINCT send_id FROM members WHERE needed AND email_id NOT IN (SELECT id FROM seen WHERE closing)
),
ended AS (
    SELECT email_id, send_id, first_value(email_id) OVER (PARTITION BY send_id ORDER BY position) AS first_of_send
    FROM members
    WHERE send_id NOT IN (SELECT send_id FROM kept)
),
changed AS (
    UPDATE email_send_log e
    SET status = 'SUCCESS',
        delivery = CASE WHEN s.severity > coalesce(array_position(s.mildest_first, e.delivery), 0)
                        THEN s.delivery ELSE e.delivery END,
        provider_message_id = coalesce(e.provider_message_id, s.provider_message_id),
        attempts = CASE WHEN s.closing THEN greatest(e.attempts + s.under_way::int, 1) ELSE e.attempts END,
        last_error = CASE WHEN s.delivery IN ('DELIVERY_FAILED', 'BOUNCED', 'COMPLAINED') THEN coalesce(s.detail, s.delivery)
                          WHEN s.closing THEN NULL ELSE e.last_error END,
        next_attempt_at = NULL,
        message = CASE WHEN s.send_id IS NOT NULL AND s.send_id NOT IN (SELECT send_id FROM ended) THEN e.message END,
        sent_at = coalesce(e.sent_at, now()),
        ended_at = CASE WHEN s.closing THEN now() ELSE e.ended_at END,
        updated_at = now()
    FROM seen s
    WHERE e.id = s.id
      AND (s.closing OR s.severity > coalesce(array_position(s.mildest_first, e.delivery), 0))
    RETURNING e.id, e.attempts, e.provider_message_id, e.delivery, s.closing, s.detail, s.send_id
),
forgotten AS (
    UPDATE email_send_log e
    SET message = NULL
    WHERE e.id = ANY (ARRAY(SELECT email_id FROM ended EXCEPT SELECT id FROM changed)) AND e.message IS NOT NULL
),
left_ AS (
    DELETE FROM email_send_members m WHERE m.send_id = ANY (ARRAY(SELECT send_id FROM ended))
),
done AS (
    DELETE FROM email_sends s WHERE s.id = ANY (ARRAY(SELECT send_id FROM ended))
),
proved AS (
    UPDATE email_sends s
    SET requests_begun = s.requests_begun + 1, first_post_at = coalesce(s.first_post_at, now()), updated_at = now()
    WHERE s.id = ANY (ARRAY(SELECT send_id FROM kept))
),
resolved AS (
    UPDATE email_dead_letters d
    SET resolution = 'DELIVERED', resolved_at = now()
    WHERE d.email_id = ANY (ARRAY(SELECT id FROM seen WHERE closing)) AND d.resolved_at IS NULL
    RETURNING d.id, d.email_id
),
recorded AS (
    INSERT INTO email_events (email_id, what, status, attempt, provider_message_id, reason, delivery)
    SELECT id, delivery, 'SUCCESS', attempts, provider_message_id, detail, delivery FROM changed
)
SELECT c.id AS email_id, true AS closed, c.send_id IS NULL OR f.email_id IS NOT NULL AS finished, f.first_of_send,
       r.id AS dead_letter_id
FROM changed c
LEFT JOIN ended f ON f.email_id = c.id
LEFT JOIN resolved r ON r.email_id = c.id
WHERE c.closing
UNION ALL
SELECT f.email_id, false, true, f.first_of_send, NULL
FROM ended f
WHERE f.email_id NOT IN (SELECT id FROM changed WHERE closing)
