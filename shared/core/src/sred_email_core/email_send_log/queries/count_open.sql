-- How many emails are open, counted no further than a limit.
--   $1 limit bigint
SELECT count(*)::bigint AS emails
FROM (SELECT FROM email_send_log WHERE ended_at IS NULL LIMIT $1::bigint) AS open
