-- Forget events that were worked longer ago than they may be delivered again, a bounded number.
--   $1 older_than interval   $2 how many int
DELETE FROM email_webhook_events
WHERE svix_id IN (SELECT svix_id FROM email_webhook_events
                  WHERE worked_at < now() - $1::interval ORDER BY worked_at LIMIT $2 FOR UPDATE SKIP LOCKED)
RETURNING svix_id
