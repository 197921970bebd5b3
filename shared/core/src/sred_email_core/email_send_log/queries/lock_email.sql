-- Lock one email until the end of the transaction; no row comes back if there is no such email.
--   $1 id uuid
--
-- What follows in the transaction sees the email and its send as they are now, and no claim can come in between.
SELECT id
FROM email_send_log
WHERE id = $1::uuid
FOR UPDATE
