-- Erase emails of a recipient: the address, the subject, the content, what the provider said; one row comes back for each.
--   $1 ids uuid[] (they and their sends are locked by this transaction: lock_emails_and_siblings, lock_sends_of)
--   $2 digest bytea of the address   $3 horizon interval   $4 those of them that have it in cc or bcc only uuid[]
--
-- waits: the email is in a send that is open, or that a replay of another email may repeat with the same bytes. It is
-- noted, and erased when that has ended. An open email that nothing can have been sent of ends CANCELLED. The addresses of
-- other recipients stay; where none can be told to be this one (the letter case of a script that the database does not
-- know), all go. The idempotency key stays: the same key must never send again.
WITH asked AS (
    SELECT e.id, e.ended_at IS NULL AS was_open, m.send_id,
           coalesce(s.state = 'OPEN'
                    OR (s.maybe_accepted AND NOT s.key_spent AND s.first_post_at + $3::interval > now()
                        AND EXISTS (SELECT
                                    FROM email_send_members n
                                    JOIN email_send_log o ON o.id = n.email_id
                                    WHERE n.send_id = s.id AND n.email_id <> ALL ($1::uuid[])
                                      AND o.status = 'FAILED' AND o.message IS NOT NULL
                                      AND EXISTS (SELECT FROM email_dead_letters d
                                                  WHERE d.email_id = o.id AND d.resolved_at IS NULL))), false) AS waits
    FROM email_send_log e
    LEFT JOIN (email_send_members m JOIN email_sends s ON s.id = m.send_id) ON m.email_id = e.id
    WHERE e.id = ANY ($1)
),
noted AS (
    INSERT INTO email_erasures (email_id, digest) SELECT id, $2::bytea FROM asked WHERE waits ON CONFLICT DO NOTHING
),
named AS (
    SELECT a.id, array_agg(r.address ORDER BY r.place) AS addresses,
           array_agg(CASE WHEN substring(sha256(convert_to(lower(coalesce(substring(r.address FROM '<([^<]*)>$'), r.address)),
                                                           'UTF8')) FROM 1 FOR 16) = $2
                          THEN 'erased' ELSE r.address END ORDER BY r.place) AS others
    FROM asked a
    JOIN email_send_log e ON e.id = a.id
    CROSS JOIN unnest(e.recipients) WITH ORDINALITY AS r (address, place)
    WHERE NOT a.waits
    GROUP BY a.id
),
erased AS (
    UPDATE email_send_log e
    SET recipients = CASE WHEN n.others <> n.addresses OR a.in_copy THEN n.others
                          ELSE array_fill('erased'::text, ARRAY[cardinality(n.addresses)]) END,
        subject = '', message = NULL, last_error = NULL, next_attempt_at = NULL,
        status = CASE WHEN a.was_open THEN 'CANCELLED' ELSE e.status END,
        ended_at = coalesce(e.ended_at, now()), updated_at = now()
    FROM (SELECT *, id = ANY ($4::uuid[]) AS in_copy FROM asked) a
    JOIN named n ON n.id = a.id
    WHERE e.id = a.id AND NOT a.waits
    RETURNING e.id, e.status, e.attempts, a.was_open, a.send_id
),
left_ AS (
    DELETE FROM email_send_members m USING erased e WHERE m.email_id = e.id
),
done AS (
    DELETE FROM email_sends s
    WHERE s.id IN (SELECT send_id FROM erased)
      AND NOT EXISTS (SELECT FROM email_send_members m WHERE m.send_id = s.id AND m.email_id NOT IN (SELECT id FROM erased))
),
silenced AS (
    UPDATE email_events v SET reason = NULL FROM erased e WHERE v.email_id = e.id AND v.reason IS NOT NULL
),
told AS (
    INSERT INTO email_events (email_id, what, status, attempt)
    SELECT id, CASE WHEN was_open THEN 'CANCELLED' ELSE 'ERASED' END, status, attempts FROM erased
),
letters AS (
    UPDATE email_dead_letters d
    SET error = 'erased', note = NULL, raw_entry = NULL, resolution = coalesce(d.resolution, 'DISCARDED'),
        resolved_at = coalesce(d.resolved_at, now())
    FROM erased e
    WHERE d.email_id = e.id
    RETURNING d.id, d.email_id
),
events AS (
    UPDATE email_webhook_events w SET detail = NULL FROM erased e WHERE w.email_id = e.id AND w.detail IS NOT NULL
),
settled AS (
    DELETE FROM email_erasures r USING erased e WHERE r.email_id = e.id AND r.digest = $2
)
SELECT a.id::text AS email_id, a.waits, a.was_open,
       ARRAY(SELECT l.id::text FROM letters l WHERE l.email_id = a.id) AS dead_letter_ids
FROM asked a
