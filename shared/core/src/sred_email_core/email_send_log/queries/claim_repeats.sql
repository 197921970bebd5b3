-- Take over open sends whose lease is free, to repeat them with the same key and bytes.
--   $1 email_ids uuid[] (any member of each send)   $2 owner text   $3 lease interval   $4 horizon interval
--
-- One row comes back for each send that is open: claimed or not, and if not, why. An email that gets no row has no open
-- send. The horizon binds sends that may have been accepted; it runs on PostgreSQL's clock.
WITH asked AS (
    SELECT DISTINCT m.send_id
    FROM email_send_members m
    WHERE m.email_id = ANY ($1::uuid[])
),
locked AS (
    SELECT s.*,
           s.lease_expires_at IS NULL OR s.lease_expires_at <= now() AS lease_free,
           s.maybe_accepted AND s.first_post_at + $4::interval <= now() AS past_horizon
    FROM email_sends s
    WHERE s.id IN (SELECT send_id FROM asked) AND s.state = 'OPEN'
    ORDER BY s.id
    FOR UPDATE
),
claimed AS (
    UPDATE email_sends s
    SET owner = $2::text,
        fence = nextval('email_send_fences'),
        owners = s.owners + CASE WHEN s.lease_expires_at IS NULL THEN 0 ELSE 1 END,
        lease_expires_at = now() + $3::interval,
        first_post_at = coalesce(s.first_post_at, now()),
        requests_begun = s.requests_begun + 1,
        updated_at = now()
    FROM locked l
    WHERE s.id = l.id AND l.lease_free
    RETURNING s.id, s.fence
),
marked AS (
    UPDATE email_send_log e
    SET status = 'SENDING', updated_at = now()
    FROM email_send_members m
    JOIN claimed c ON c.id = m.send_id
    WHERE e.id = m.email_id AND e.ended_at IS NULL
)
SELECT l.id AS send_id, c.fence, l.lease_free, l.past_horizon, l.endpoint, l.serializer_version, l.redirect_to,
       l.configured_headers, l.body_sha256, l.requests_begun, l.requests_refused, l.owners
FROM locked l
LEFT JOIN claimed c ON c.id = l.id
