-- Where emails stand in the log; one row comes back for each that is there.
--   $1 email_ids uuid[]
SELECT e.id AS email_id, e.status, e.attempts, e.ended_at IS NOT NULL AS ended, e.expire_at <= now() AS expired,
       (SELECT f.email_id FROM email_send_members f WHERE f.send_id = s.id ORDER BY f.position LIMIT 1) AS first_of_open_send,
       greatest(s.lease_expires_at - now(), e.next_attempt_at - now(), e.send_at - now(), interval '0') AS wait,
       d.id AS dead_letter_id, d.reason, d.error
FROM email_send_log e
LEFT JOIN (email_send_members m JOIN email_sends s ON s.id = m.send_id AND s.state = 'OPEN') ON m.email_id = e.id
LEFT JOIN email_dead_letters d ON d.email_id = e.id AND d.resolved_at IS NULL
WHERE e.id = ANY ($1::uuid[])
