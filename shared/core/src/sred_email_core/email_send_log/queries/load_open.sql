-- What is needed to publish emails: those that are open now, and the open send that each is in.
--   $1 ids uuid[]   $2 most bytes of content to read of one int   $3 ahead interval
--
-- An email of a send is repeated within it, so its content is not read. Nor is that of a large one, which stays here.
-- One that is scheduled for later than that while ahead stays here as a whole.
SELECT e.id, e.kind, e.priority, e.created_at, e.expire_at, e.send_at, e.traceparent, s.id AS open_send_id,
       e.alone OR octet_length(e.message) > $2 AS alone,
       octet_length(e.message) AS size_bytes,
       CASE WHEN s.id IS NULL AND octet_length(e.message) <= $2 THEN e.message END AS message,
       greatest(greatest(e.next_attempt_at, e.send_at) - now(), interval '0') AS delay
FROM email_send_log e
LEFT JOIN (email_send_members m JOIN email_sends s ON s.id = m.send_id AND s.state = 'OPEN') ON m.email_id = e.id
WHERE e.id = ANY ($1::uuid[]) AND e.ended_at IS NULL
  AND (s.id IS NOT NULL OR e.message IS NOT NULL AND (e.expire_at IS NULL OR e.expire_at > now())
       AND (e.send_at IS NULL OR e.send_at <= now() + $3::interval))
ORDER BY e.id
