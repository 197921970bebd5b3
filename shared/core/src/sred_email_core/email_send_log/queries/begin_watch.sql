-- Where a watch begins: the present state of some emails, and the place from which on their events are to be read.
--   $1 email_ids uuid[]
--
-- One row at least comes back, with ``settled``; with it each email that exists, and the sequence of its last event: what
-- the state shows already need not be told after it. Both are of one snapshot.
SELECT pg_snapshot_xmin(s)::text::bigint AS settled, e.id, e.status, e.delivery, e.updated_at, e.attempts, e.last_error,
       e.provider_message_id,
       (SELECT v.sequence FROM email_events v WHERE v.email_id = e.id ORDER BY v.sequence DESC LIMIT 1) AS sequence
FROM pg_current_snapshot() AS s
LEFT JOIN email_send_log e ON e.id = ANY ($1::uuid[])
