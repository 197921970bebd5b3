-- Note that nothing is left of what letters held, here and in Redis.
--   $1 ids uuid[]
UPDATE email_dead_letters SET content_left_at = now() WHERE id = ANY ($1::uuid[])
