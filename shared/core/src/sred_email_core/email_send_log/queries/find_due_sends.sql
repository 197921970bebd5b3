-- Open sends whose lease is free and whose repeat is overdue: the emails of each, in order.
--   $1 older_than interval   $2 how many sends int
WITH overdue AS (
    SELECT s.id
    FROM email_sends s
    WHERE s.state = 'OPEN'
      AND (s.lease_expires_at IS NULL OR s.lease_expires_at < now() - $1::interval)
      AND s.updated_at < now() - $1::interval
      AND NOT EXISTS (SELECT FROM email_send_members m
                      JOIN email_send_log e ON e.id = m.email_id
                      WHERE m.send_id = s.id AND e.next_attempt_at >= now() - $1::interval)
    ORDER BY s.updated_at
    LIMIT $2
)
SELECT m.send_id, m.email_id
FROM email_send_members m
JOIN overdue o ON o.id = m.send_id
ORDER BY m.send_id, m.position
