-- The frozen contents of emails (serialized EmailContent), of those that still have one.
--   $1 ids uuid[]
SELECT id, message
FROM email_send_log
WHERE id = ANY ($1::uuid[]) AND message IS NOT NULL
