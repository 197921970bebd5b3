-- How many emails are open, those apart that are scheduled for later than a while ahead; counted no further than a limit.
--   $1 limit bigint   $2 ahead interval
--
-- Both counts read an index alone; what is scheduled is subtracted, since to pass it over would mean to read its rows.
WITH scheduled AS MATERIALIZED (
    SELECT count(*)::bigint AS emails
    FROM email_send_log
    WHERE ended_at IS NULL AND send_at IS NOT NULL AND send_at > now() + $2::interval
)
SELECT count(*)::bigint - (SELECT emails FROM scheduled) AS emails
FROM (SELECT FROM email_send_log WHERE ended_at IS NULL LIMIT $1::bigint + (SELECT emails FROM scheduled)) AS open
