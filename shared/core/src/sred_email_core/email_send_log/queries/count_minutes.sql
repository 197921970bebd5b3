-- Count the events that came since the last time, by minutes; forget minutes of more than a day ago.
--   $1 how many transactions bigint
--
-- An event counts once no transaction runs that is as old as its own (pg_snapshot_xmin), so that none is passed over. Whoever
-- finds the mark held by another does nothing. A mark of another cluster's time, as a dump brings it, begins anew. How long an
-- email took is counted from when it was to be sent.
-- One row comes back, unless another is at it: ``more``, whether there is more to be counted now.
WITH held AS MATERIALIZED (
    SELECT transaction_id AS mark FROM email_minutes_mark FOR UPDATE SKIP LOCKED
),
now_ AS MATERIALIZED (
    SELECT h.mark, pg_snapshot_xmin(s) AS settled, pg_snapshot_xmax(s) AS next
    FROM held h
    CROSS JOIN pg_current_snapshot() AS s
),
bounds AS MATERIALIZED (
    SELECT n.mark, n.settled,
           CASE WHEN n.mark > n.next THEN n.settled
                ELSE greatest(n.mark, least(n.settled, (n.mark::text::bigint + $1::bigint)::text::xid8))
           END AS until
    FROM now_ n
),
happened AS (
    SELECT date_trunc('minute', e.at) AS minute, e.what,
           CASE WHEN e.what = 'SENT'
                THEN extract(epoch FROM e.at - greatest(l.created_at, l.send_at))::float8 * 1000
           END AS took_ms
    FROM bounds b
    -- OFFSET 0: both by their indexes, whatever the statistics say.
    CROSS JOIN LATERAL (
        SELECT email_id, what, at
        FROM email_events
        WHERE transaction_id >= b.mark AND transaction_id < b.until AND what IN ('ACCEPTED', 'SENT', 'FAILED')
        OFFSET 0
    ) e
    LEFT JOIN LATERAL (
        SELECT created_at, send_at
        FROM email_send_log
        WHERE id = e.email_id AND e.what = 'SENT'
        OFFSET 0
    ) l ON true
),
counted AS (
    INSERT INTO email_minutes AS m (minute, what, bucket, count)
    SELECT minute, what, coalesce(ceil(3 * ln(greatest(took_ms, 1)) / ln(2::float8)), 0)::smallint, count(*)
    FROM happened
    GROUP BY 1, 2, 3
    ON CONFLICT (minute, what, bucket) DO UPDATE SET count = m.count + excluded.count
),
forgotten AS (
    DELETE FROM email_minutes WHERE minute < now() - interval '1 day'
)
UPDATE email_minutes_mark k
SET transaction_id = b.until
FROM bounds b
RETURNING b.until < b.settled AS more
