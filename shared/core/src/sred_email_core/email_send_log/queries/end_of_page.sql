-- The last email of a page of the log; no row comes back if fewer are left.
--   $1 after_id uuid   $2 how many int
SELECT id FROM email_send_log WHERE id > $1::uuid ORDER BY id OFFSET $2::int - 1 LIMIT 1
