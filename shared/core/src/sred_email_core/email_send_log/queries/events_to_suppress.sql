-- What events of the provider that are not worked yet say about suppressing an address.
--   $1 address text
SELECT suppress, suppress_reason, occurred_at
FROM email_webhook_events
WHERE suppress = $1 AND worked_at IS NULL
ORDER BY suppress_reason = 'COMPLAINED' DESC
LIMIT 1
