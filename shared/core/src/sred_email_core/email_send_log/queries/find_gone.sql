-- Which of these emails need no place: they have ended and are in no open send, or there is no such email.
--   $1 ids uuid[]   $2 older_than interval (what changed since then is left to whoever changed it)
--
-- Scalar subqueries keep the lookups by key: as joins they would read whole tables.
SELECT a.id::text
FROM unnest($1::uuid[]) AS a (id)
WHERE (SELECT e.ended_at IS NOT NULL AND e.updated_at <= now() - $2::interval
       FROM email_send_log e WHERE e.id = a.id) IS NOT FALSE
  AND (SELECT s.state
       FROM email_send_members m JOIN email_sends s ON s.id = m.send_id
       WHERE m.email_id = a.id) IS DISTINCT FROM 'OPEN'
