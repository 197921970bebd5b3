-- Which of these emails have events of some transactions.
--   $1 email_ids uuid[]   $2 from bigint, $3 until bigint (the first one that does not count)
SELECT DISTINCT e.email_id
FROM email_events e
WHERE e.email_id = ANY ($1::uuid[])
  AND e.transaction_id >= $2::bigint::text::xid8 AND e.transaction_id < $3::bigint::text::xid8
