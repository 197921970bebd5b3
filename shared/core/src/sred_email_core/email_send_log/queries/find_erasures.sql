-- Erasures that wait for nothing, or are to be looked at again, the oldest first.
--   $1 how many int
SELECT r.email_id, r.digest
FROM email_erasures r
WHERE NOT EXISTS (SELECT FROM email_send_members m JOIN email_sends s ON s.id = m.send_id
                  WHERE m.email_id = r.email_id AND s.state = 'OPEN')
ORDER BY r.requested_at, r.email_id
LIMIT $1
