-- Open sends: the emails of each that must have a place, in order, and when it may be repeated.
--   $1 send_ids text[]
--
-- The first email stands for the send, also when it has ended; of the others only those that are open matter.
SELECT m.send_id,
       array_agg(m.email_id ORDER BY m.position) FILTER (WHERE e.ended_at IS NULL OR m.is_first) AS email_ids,
       greatest(max(s.lease_expires_at) - now(), max(e.next_attempt_at) - now(), interval '0') AS delay
FROM (SELECT email_id, send_id, position,
             position = min(position) OVER (PARTITION BY send_id) AS is_first
      FROM email_send_members
      WHERE send_id = ANY ($1::text[])) m
JOIN email_sends s ON s.id = m.send_id AND s.state = 'OPEN'
JOIN email_send_log e ON e.id = m.email_id
GROUP BY m.send_id
ORDER BY m.send_id
