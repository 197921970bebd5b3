-- What happened in the minutes of late, the earliest first.
--   $1 how many minutes int
SELECT minute, what, bucket, count
FROM email_minutes
WHERE minute > date_trunc('minute', now()) - make_interval(mins => $1::int)
ORDER BY minute
