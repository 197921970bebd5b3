-- How many open emails are scheduled for later than a while ahead: no place in Redis is due to them yet.
--   $1 ahead interval
SELECT count(*)::bigint AS emails
FROM email_send_log
WHERE ended_at IS NULL AND send_at IS NOT NULL AND send_at > now() + $1::interval
