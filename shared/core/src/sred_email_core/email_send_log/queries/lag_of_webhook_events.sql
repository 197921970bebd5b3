-- How long the event that has been due the longest waits to be worked; NULL: none does.
SELECT now() - min(due_at) AS lag
FROM email_webhook_events
WHERE worked_at IS NULL AND due_at <= now()
