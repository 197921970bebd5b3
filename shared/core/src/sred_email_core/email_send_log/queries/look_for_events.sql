-- Up to where events can be told now, and whether there are any that could not be told at the last look.
--   $1 place bigint (``settled`` of the last look)
WITH now_ AS MATERIALIZED (
    SELECT pg_snapshot_xmin(pg_current_snapshot()) AS settled
)
SELECT n.settled::text::bigint AS settled,
       EXISTS (SELECT FROM email_events e
               WHERE e.transaction_id >= $1::bigint::text::xid8 AND e.transaction_id < n.settled) AS any_new
FROM now_ n
