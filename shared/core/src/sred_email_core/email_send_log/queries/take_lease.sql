-- Take or renew the lease on some work; a row comes back if it is the holder's from now on.
--   $1 name text   $2 holder text   $3 span interval
INSERT INTO email_leases AS l (name, holder, expires_at) VALUES ($1, $2, now() + $3::interval)
ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at
WHERE l.holder = excluded.holder OR l.expires_at <= now()
RETURNING true AS taken
