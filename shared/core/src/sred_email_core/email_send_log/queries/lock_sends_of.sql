-- Lock the sends of emails that this transaction has locked.
--   $1 email_ids uuid[]
SELECT id
FROM email_sends
WHERE id IN (SELECT send_id FROM email_send_members WHERE email_id = ANY ($1::uuid[]))
ORDER BY id
FOR UPDATE
