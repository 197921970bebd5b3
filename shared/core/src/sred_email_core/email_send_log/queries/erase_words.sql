-- Forget errors that name an address, of a page of the log: also of emails to others, which shared a request with it.
--   $1 after_id uuid, $2 last_id uuid   $3 address text, lower case
WITH events AS (
    UPDATE email_events SET reason = 'erased'
    WHERE email_id > $1::uuid AND email_id <= $2::uuid AND reason IS NOT NULL AND strpos(lower(reason), $3::text) > 0
)
UPDATE email_send_log SET last_error = 'erased'
WHERE id > $1 AND id <= $2 AND last_error IS NOT NULL AND strpos(lower(last_error), $3) > 0
