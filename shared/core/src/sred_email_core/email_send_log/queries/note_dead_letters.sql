-- Keep what a person said of dead letters.
--   $1 ids uuid[]   $2 note text
UPDATE email_dead_letters SET note = $2 WHERE id = ANY ($1::uuid[])
