-- Forget erasures of emails that have left the log.
DELETE FROM email_erasures r WHERE NOT EXISTS (SELECT FROM email_send_log e WHERE e.id = r.email_id)
