-- Remove events of emails that the log does not have any more; the place of the mark comes back.
--   $1 email_ids uuid[]   $2 older_than interval (a day: so long a watcher may take to come back)
--
-- The mark moves in the same statement, so that nobody goes on from before what is gone without being told.
WITH pruned AS (
    DELETE FROM email_events e
    WHERE e.email_id = ANY ($1::uuid[]) AND e.at < now() - $2::interval
      AND NOT EXISTS (SELECT FROM email_send_log l WHERE l.id = e.email_id)
    RETURNING e.transaction_id::text::bigint AS transaction_id
)
UPDATE email_events_mark m
SET transaction_id = greatest(m.transaction_id::text::bigint,
                              coalesce((SELECT max(transaction_id) + 1 FROM pruned), 0))::text::xid8
RETURNING m.transaction_id::text::bigint AS mark
