-- Give back the lease on some work, if it is the holder's.
--   $1 name text   $2 holder text
DELETE FROM email_leases WHERE name = $1 AND holder = $2
