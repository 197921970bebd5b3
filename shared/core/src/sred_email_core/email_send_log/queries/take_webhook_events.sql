-- Lock events that are to be worked, those first that are due first, with the email that each is about.
--   $1 how many int
--
-- Events that another process works on are passed over. The email is the one named by the tags; else the one that the
-- provider took under that id; NULL: it is not known, maybe not yet.
SELECT w.svix_id, w.delivery, w.provider_message_id, w.detail, w.occurred_at, w.suppress, w.suppress_reason, w.tries,
       coalesce((SELECT e.id FROM email_send_log e WHERE e.id = w.email_id),
                (SELECT e.id FROM email_send_log e WHERE e.provider_message_id = w.provider_message_id LIMIT 1)) AS email_id
FROM email_webhook_events w
WHERE w.worked_at IS NULL AND w.due_at <= now()
ORDER BY w.due_at
LIMIT $1
FOR UPDATE OF w SKIP LOCKED
