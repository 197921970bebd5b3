-- Open emails whose scheduled time comes within a while, soonest first, from a place on.
--   $1 after_send_at timestamptz, $2 after_id uuid   $3 ahead interval   $4 how many int
SELECT id, send_at
FROM email_send_log
WHERE ended_at IS NULL AND send_at IS NOT NULL
  AND (send_at, id) > ($1::timestamptz, $2::uuid) AND send_at <= now() + $3::interval
ORDER BY send_at, id
LIMIT $4
