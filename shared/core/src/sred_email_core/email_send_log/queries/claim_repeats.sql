-- Take over open sends whose lease is free and whose next attempt is due, to repeat them with the same key and bytes.
--   $1 email_ids uuid[] (any member of each send)   $2 owner text   $3 lease interval   $4 horizon interval
--   $5 alive text[] (owners that gave a sign of life of late)
--
-- One row comes back for each send that is open: claimed or not, and if not, how long to wait. An email that gets no row
-- has no open send. The horizon binds sends that may have been accepted; it runs on PostgreSQL's clock.
WITH asked AS (
    SELECT DISTINCT m.send_id
    FROM email_send_members m
    WHERE m.email_id = ANY ($1::uuid[])
),
emails AS (
    SELECT id, next_attempt_at, expire_at
    FROM email_send_log
    WHERE id IN (SELECT m.email_id FROM email_send_members m JOIN asked a ON a.send_id = m.send_id)
    ORDER BY id
    FOR UPDATE
),
locked AS (
    SELECT s.*,
           s.lease_expires_at IS NULL OR s.lease_expires_at <= now() AS lease_free,
           s.maybe_accepted AND s.first_post_at + $4::interval <= now() AS past_horizon
    FROM email_sends s
    WHERE s.id IN (SELECT send_id FROM asked) AND s.state = 'OPEN'
      AND (SELECT count(*) FROM emails) >= 0 -- they are locked first, here as everywhere
    ORDER BY s.id
    FOR UPDATE
),
judged AS (
    SELECT l.*, m.next_attempt_at, m.members, m.expired,
           l.lease_free AND (m.next_attempt_at IS NULL OR m.next_attempt_at <= now() + interval '1 s') AS free
    FROM locked l
    CROSS JOIN LATERAL (
        SELECT max(e.next_attempt_at) AS next_attempt_at, count(*) AS members, bool_and(e.expire_at <= now()) AS expired
        FROM email_send_members m
        JOIN emails e ON e.id = m.email_id -- as they are now that they are locked
        WHERE m.send_id = l.id
    ) m
),
claimed AS (
    UPDATE email_sends s
    SET owner = $2::text,
        fence = nextval('email_send_fences'),
        owners = s.owners + CASE WHEN s.lease_expires_at IS NULL THEN 0 ELSE 1 END,
        deaths = s.deaths + CASE WHEN s.lease_expires_at IS NULL OR s.owner = $2::text OR s.owner = ANY ($5::text[])
                                 THEN 0 ELSE 1 END,
        lease_expires_at = now() + $3::interval,
        first_post_at = coalesce(s.first_post_at, now()),
        requests_begun = s.requests_begun + 1,
        updated_at = now()
    FROM judged j
    WHERE s.id = j.id AND j.free
    RETURNING s.id, s.fence, s.owners, s.deaths
),
marked AS (
    UPDATE email_send_log e
    SET status = 'SENDING', updated_at = now()
    FROM email_send_members m
    JOIN claimed c ON c.id = m.send_id
    WHERE e.id = m.email_id AND e.ended_at IS NULL
)
SELECT j.id AS send_id, c.fence, c.deaths, j.past_horizon, j.members = 1 AND j.expired IS TRUE AS expired,
       greatest(j.lease_expires_at - now(), j.next_attempt_at - now(), interval '0') AS wait,
       j.endpoint, j.serializer_version, j.redirect_to, j.configured_headers, j.body_sha256, j.requests_begun,
       j.requests_refused, coalesce(c.owners, j.owners) AS owners
FROM judged j
LEFT JOIN claimed c ON c.id = j.id
