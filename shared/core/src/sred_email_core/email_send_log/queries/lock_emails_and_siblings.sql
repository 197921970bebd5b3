-- Lock emails, and those that share a send with them, until the end of the transaction.
--   $1 ids uuid[]
--
-- By id, here as everywhere. What follows in the transaction sees them as they are now; lock_sends_of comes next, for a
-- send that one of them joined while this waited.
SELECT id
FROM email_send_log
WHERE id IN (SELECT unnest($1::uuid[])
             UNION ALL
             SELECT o.email_id
             FROM email_send_members m
             JOIN email_send_members o ON o.send_id = m.send_id
             WHERE m.email_id = ANY ($1::uuid[]))
ORDER BY id
FOR UPDATE
