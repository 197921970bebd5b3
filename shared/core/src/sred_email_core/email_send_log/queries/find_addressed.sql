-- Emails of a page of the log that may have an address among their recipients: whoever asks looks closer.
--   $1 after_id uuid, $2 last_id uuid   $3 address text, lower case   $4 the same as encode(…, 'escape') writes it
SELECT id, recipients, message
FROM email_send_log
WHERE id > $1::uuid AND id <= $2::uuid
  AND (strpos(lower(array_to_string(recipients, ' ')), $3::text) > 0
       OR (message IS NOT NULL AND strpos(lower(encode(message, 'escape')), $4::text) > 0))
ORDER BY id
