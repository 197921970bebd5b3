-- Open emails in the order of their ids, and the first email of the open send that each is in.
--   $1 after_id uuid   $2 until_id uuid   $3 older_than interval   $4 how many to look at int
--
-- settled: nobody changed the email for that long, and it has not expired and does not wait for its scheduled time (which
-- find_due.sql looks at), so that it must have a place in Redis. An email whose content is gone has none. LIMIT 1 keeps the
-- lookups by key: as joins they would read whole tables.
SELECT e.id::text,
       e.updated_at <= now() - $3::interval
           AND (o.send_id IS NOT NULL OR e.message IS NOT NULL AND (e.expire_at IS NULL OR e.expire_at > now())
               AND (e.send_at IS NULL OR e.status <> 'SCHEDULED' AND e.send_at <= now())) AS settled,
       (SELECT f.email_id::text FROM email_send_members f WHERE f.send_id = o.send_id ORDER BY f.position LIMIT 1)
           AS first_of_open_send
FROM (SELECT id, status, updated_at, send_at, expire_at, message
      FROM email_send_log
      WHERE ended_at IS NULL AND id > $1::uuid AND id <= $2::uuid
      ORDER BY id
      LIMIT $4) e
LEFT JOIN LATERAL (SELECT m.send_id
                   FROM email_send_members m
                   JOIN email_sends s ON s.id = m.send_id
                   WHERE m.email_id = e.id AND s.state = 'OPEN'
                   LIMIT 1) o ON true
ORDER BY e.id
