-- Lock emails of a page of the log that may leave it: they ended long enough ago. One row comes back for each, and one for
-- the last email of the page, if that is full.
--   $1 older_than interval   $2 after_created_at timestamptz, $3 after_id uuid   $4 how many to look at int
--
-- An email that another transaction works on is passed over until the next time.
WITH page AS MATERIALIZED (
    SELECT id, created_at, ended_at
    FROM email_send_log
    WHERE created_at < now() - $1::interval
      AND created_at >= $2::timestamptz AND (created_at, id) > ($2, $3::uuid)
    ORDER BY created_at, id
    LIMIT $4::int
),
leaving AS (
    SELECT e.id
    FROM email_send_log e
    WHERE e.id IN (SELECT id FROM page WHERE ended_at < now() - $1) AND e.ended_at < now() - $1
      AND NOT EXISTS (SELECT FROM email_dead_letters d WHERE d.email_id = e.id AND d.resolved_at IS NULL) -- it stays: no lock
    FOR UPDATE SKIP LOCKED
)
SELECT id, NULL::timestamptz AS page_ends_at FROM leaving
UNION ALL
(SELECT id, created_at FROM page ORDER BY created_at, id OFFSET $4 - 1)
