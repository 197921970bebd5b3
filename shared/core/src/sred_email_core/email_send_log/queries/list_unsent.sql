-- Emails in statuses other than SUCCESS, the newest first, from a place on: few of the log, found among those.
--   $1 to $7 as in list_emails.sql   $8 any_open bool, $9 any_ended bool (whether $2 has such statuses)
--
-- An email that is open has no ended_at; one that ended without being sent has no sent_at. Neither index that finds them
-- holds a status, which changes too often.
WITH found AS (
    (SELECT e.id, e.created_at
     FROM email_send_log e
     WHERE $8::bool AND e.ended_at IS NULL AND e.status = ANY ($2::text[]) AND e.kind = ANY ($1::text[])
       AND e.created_at >= $3::timestamptz AND e.created_at < $4::timestamptz
       AND (e.created_at, e.id) < ($5::timestamptz, $6::uuid)
     ORDER BY e.created_at DESC, e.id DESC
     LIMIT $7::int)
    UNION ALL
    (SELECT e.id, e.created_at
     FROM email_send_log e
     WHERE $9::bool AND e.ended_at IS NOT NULL AND e.sent_at IS NULL AND e.status = ANY ($2)
       AND e.kind = ANY ($1) AND e.created_at >= $3 AND e.created_at < $4 AND (e.created_at, e.id) < ($5, $6)
     ORDER BY e.created_at DESC, e.id DESC
     LIMIT $7)
)
SELECT e.id, e.idempotency_key, e.kind, e.priority, e.from_address, e.recipients, e.subject, e.status, e.attempts,
       e.last_error, e.provider_message_id, e.delivery, e.created_at, e.send_at, e.expire_at, e.sent_at, e.updated_at,
       e.next_attempt_at, e.caller
FROM (SELECT id FROM found ORDER BY created_at DESC, id DESC LIMIT $7) f
JOIN email_send_log e ON e.id = f.id
ORDER BY e.created_at DESC, e.id DESC
