-- Open emails that have expired and are in no open send, those first that expired first.
--   $1 how many int
SELECT e.id
FROM email_send_log e
WHERE e.ended_at IS NULL AND e.expire_at <= now()
  AND NOT EXISTS (SELECT FROM email_send_members m JOIN email_sends s ON s.id = m.send_id
                  WHERE m.email_id = e.id AND s.state = 'OPEN')
ORDER BY e.expire_at
LIMIT $1
