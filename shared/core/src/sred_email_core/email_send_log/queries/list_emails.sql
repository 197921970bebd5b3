-- Emails, the newest first, from a place on.
--   $1 kinds text[] (all of them where any will do)   $2 statuses text[] (NULL: any)
--   $3 from timestamptz, $4 until timestamptz (created_at; -infinity and infinity: no bound)
--   $5 before_at timestamptz, $6 before_id uuid (the last one seen; infinity and the greatest id: from the newest)
--   $7 how many int
--
-- By email_send_log_created, backwards until the page is full: what is rare is looked for in all that is within the bounds.
SELECT e.id, e.idempotency_key, e.kind, e.priority, e.from_address, e.recipients, e.subject, e.status, e.attempts,
       e.last_error, e.provider_message_id, e.delivery, e.created_at, e.send_at, e.expire_at, e.sent_at, e.updated_at,
       e.next_attempt_at
FROM email_send_log e
WHERE e.created_at >= $3::timestamptz AND e.created_at < $4::timestamptz
  AND e.created_at <= $5::timestamptz AND (e.created_at, e.id) < ($5, $6::uuid)
  AND e.kind = ANY ($1::text[]) AND ($2::text[] IS NULL OR e.status = ANY ($2))
ORDER BY e.created_at DESC, e.id DESC
LIMIT $7::int
