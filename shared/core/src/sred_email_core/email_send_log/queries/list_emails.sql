-- Emails, the newest first, from a place on.
--   $1 kinds text[] (all of them where any will do)   $2 statuses text[] (NULL: any)
--   $3 from timestamptz, $4 until timestamptz (created_at; -infinity and infinity: no bound)
--   $5 before_at timestamptz, $6 before_id uuid (the last one seen; infinity and the greatest id: from the newest)
--   $7 how many int   $8 how many to look at int
--
-- By email_send_log_created, backwards until the page is full or $8 emails were looked at: what is rare is looked for in
-- several statements, none of which reads the whole log. One row at least comes back; where the page is not full and there
-- may be more, each has ``looked_at`` and ``looked_id``, the last one looked at.
WITH page AS MATERIALIZED (
    SELECT *
    FROM (
        SELECT e.id, e.idempotency_key, e.kind, e.priority, e.from_address, e.recipients, e.subject, e.status, e.attempts,
               e.last_error, e.provider_message_id, e.delivery, e.created_at, e.send_at, e.expire_at, e.sent_at, e.updated_at,
               e.next_attempt_at, e.caller
        FROM email_send_log e
        WHERE e.created_at >= $3::timestamptz AND e.created_at < $4::timestamptz
          AND e.created_at <= $5::timestamptz AND (e.created_at, e.id) < ($5, $6::uuid)
        ORDER BY e.created_at DESC, e.id DESC
        LIMIT $8::int
    ) looked
    WHERE looked.kind = ANY ($1::text[]) AND ($2::text[] IS NULL OR looked.status = ANY ($2))
    ORDER BY looked.created_at DESC, looked.id DESC
    LIMIT $7::int
),
last_looked AS MATERIALIZED (
    SELECT e.created_at, e.id
    FROM email_send_log e
    WHERE (SELECT count(*) FROM page) < $7 AND e.created_at >= $3 AND e.created_at < $4
      AND e.created_at <= $5 AND (e.created_at, e.id) < ($5, $6)
    ORDER BY e.created_at DESC, e.id DESC
    OFFSET $8 - 1 LIMIT 1
)
SELECT page.*, l.created_at AS looked_at, l.id AS looked_id
FROM (SELECT) AS one
LEFT JOIN last_looked l ON true
LEFT JOIN page ON true
ORDER BY page.created_at DESC, page.id DESC
