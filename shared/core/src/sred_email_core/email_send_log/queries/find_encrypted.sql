-- Emails of a page of the log whose content is encrypted, and the size of each.
--   $1 after_id uuid, $2 last_id uuid
--
-- Of contents only the first byte is read: no other message begins with 0.
SELECT id, octet_length(message) AS size_bytes
FROM email_send_log
WHERE id > $1::uuid AND id <= $2::uuid AND substring(message FROM 1 FOR 1) = '\x00'::bytea
ORDER BY id
