-- Make new sends of emails that are free, each send wholly or not at all; one row comes back for each email asked for.
--   Of each send, by its number (1, 2, …) in this call:
--   $1 send_ids text[]       (NULL for a lone email: its key is made of email id and generation)
--   $2 endpoints text[]      $3 serializer_versions int[]   $4 redirects text[]   $5 configured_headers bytea[]
--   $6 body_sha256s bytea[]
--   Of each email:
--   $7 send_numbers int[]    $8 email_ids uuid[]            $9 positions int[] (0, 1, … in its send)
--   Of all: $10 owner text   $11 lease interval
--   Of each email: $12 left_outs text[] (recipients left out of its body: their places in to, cc and bcc, with commas; or NULL)
--
-- Free: open, in no send, not expired, not scheduled for later, and not waiting for a later attempt. Emails are locked by
-- id, so that claims, cancels and records wait for each other in one direction only. A row that changed while this
-- statement waited for its lock is judged as it is now. The claim counts the request as begun: a process that dies from
-- here on leaves a send that may have been accepted.
WITH asked AS (
    SELECT * FROM unnest($7::int[], $8::uuid[], $9::int[], $12::text[]) AS a (send_number, email_id, position, left_out)
),
locked AS (
    SELECT id, status, attempts, generation, ended_at, send_at, expire_at, next_attempt_at
    FROM email_send_log
    WHERE id IN (SELECT email_id FROM asked)
    ORDER BY id
    FOR UPDATE
),
seen AS (
    SELECT a.send_number, a.email_id, a.position, a.left_out, l.status, l.attempts, l.generation,
           m.send_id AS open_send_id, l.ended_at IS NOT NULL AS ended, greatest(l.next_attempt_at, l.send_at) AS due_at,
           l.expire_at, l.expire_at <= now() AS expired,
           l.id IS NOT NULL AND l.ended_at IS NULL AND m.email_id IS NULL
               AND l.status IN ('QUEUED', 'SCHEDULED', 'RETRYING')
               AND (l.expire_at IS NULL OR l.expire_at > now())
               AND (l.send_at IS NULL OR l.send_at <= now())
               AND (l.next_attempt_at IS NULL OR l.next_attempt_at <= now() + interval '1 s') AS free
    FROM asked a
    LEFT JOIN locked l ON l.id = a.email_id
    -- OFFSET 0: each by its index, whatever the statistics say of tables that fill and empty within seconds.
    LEFT JOIN LATERAL (SELECT i.email_id, i.send_id FROM email_send_members i JOIN email_sends o ON o.id = i.send_id
                       WHERE i.email_id = a.email_id AND o.state = 'OPEN' OFFSET 0) m ON true
),
whole AS (
    SELECT send_number, min(email_id::text || '.' || generation) AS lone_id
    FROM seen
    GROUP BY send_number
    HAVING bool_and(free)
),
made AS (
    INSERT INTO email_sends (id, endpoint, serializer_version, redirect_to, configured_headers, body_sha256, owner,
                             lease_expires_at, first_post_at)
    SELECT coalesce(s.send_id, w.lone_id), s.endpoint, s.serializer_version, s.redirect_to, s.configured_headers,
           s.body_sha256, $10::text, now() + $11::interval, now()
    FROM unnest($1::text[], $2::text[], $3::int[], $4::text[], $5::bytea[], $6::bytea[])
        WITH ORDINALITY AS s (send_id, endpoint, serializer_version, redirect_to, configured_headers, body_sha256, number)
    JOIN whole w ON w.send_number = s.number
    RETURNING id, fence
),
joined AS (
    INSERT INTO email_send_members (email_id, send_id, position, left_out)
    SELECT s.email_id, coalesce(($1::text[])[s.send_number], w.lone_id), s.position,
           string_to_array(s.left_out, ',')::smallint[]
    FROM seen s
    JOIN whole w USING (send_number)
),
marked AS (
    UPDATE email_send_log l
    SET status = 'SENDING', updated_at = now()
    FROM seen s
    JOIN whole w USING (send_number)
    WHERE l.id = s.email_id
)
SELECT s.send_number, s.email_id, s.status, s.attempts, s.ended, s.expired, s.free,
       (SELECT f.email_id FROM email_send_members f WHERE f.send_id = s.open_send_id ORDER BY f.position LIMIT 1)
           AS first_of_open_send,
       greatest((SELECT o.lease_expires_at - now() FROM email_sends o WHERE o.id = s.open_send_id),
                s.due_at - now(), interval '0') AS wait,
       s.expire_at - now() AS expires_in, made.id AS send_id, made.fence
FROM seen s
LEFT JOIN whole w USING (send_number)
LEFT JOIN made ON made.id = coalesce(($1::text[])[s.send_number], w.lone_id)
