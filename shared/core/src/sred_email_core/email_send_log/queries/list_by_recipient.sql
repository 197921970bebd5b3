-- Emails with an address in "to", the newest first, from a place on.
--   $1 to $7 as in list_emails.sql   $8 address text
--
-- Those that have ended by email_send_log_recipient, backwards until the page is full; those with several by their own index;
-- of the others that are open, all are looked at.
WITH addressed AS MATERIALIZED (
    (SELECT e.id, e.kind, e.status, e.created_at
     FROM email_send_log e
     WHERE e.recipients[1] = $8::text AND e.ended_at IS NOT NULL
       AND e.kind = ANY ($1::text[]) AND ($2::text[] IS NULL OR e.status = ANY ($2))
       AND e.created_at >= $3::timestamptz AND e.created_at < $4::timestamptz
       AND e.created_at <= $5::timestamptz AND (e.created_at, e.id) < ($5, $6::uuid)
     ORDER BY e.created_at DESC, e.id DESC
     LIMIT $7::int)
    UNION
    SELECT e.id, e.kind, e.status, e.created_at
    FROM email_send_log e
    WHERE e.recipients[1] = $8 AND e.ended_at IS NULL
    UNION
    SELECT e.id, e.kind, e.status, e.created_at
    FROM email_send_log e
    WHERE cardinality(e.recipients) > 1 AND e.recipients @> ARRAY[$8]
),
page AS MATERIALIZED (
    SELECT a.id
    FROM addressed a
    WHERE a.kind = ANY ($1) AND ($2 IS NULL OR a.status = ANY ($2))
      AND a.created_at >= $3 AND a.created_at < $4 AND (a.created_at, a.id) < ($5, $6)
    ORDER BY a.created_at DESC, a.id DESC
    LIMIT $7
)
SELECT e.id, e.idempotency_key, e.kind, e.priority, e.from_address, e.recipients, e.subject, e.status, e.attempts,
       e.last_error, e.provider_message_id, e.delivery, e.created_at, e.send_at, e.expire_at, e.sent_at, e.updated_at,
       e.next_attempt_at, e.caller
FROM page p
JOIN email_send_log e ON e.id = p.id
ORDER BY e.created_at DESC, e.id DESC
