-- The next events of all emails, in order for each email; each will be told, however its transaction commits.
--   $1 place bigint, $2 sequence bigint (of the last one seen)   $3 how many int
--
-- An event can be told once no transaction runs that is as old as its own (pg_snapshot_xmin): what commits later is younger.
-- Within an email, events come by their sequence, which follows the versions of its row, since it is drawn under the row's
-- lock. An older transaction may have got that lock after a younger one: so the place of an event is the youngest
-- transaction that wrote one of its email up to then. Places of transactions of another cluster's time, as a dump brings
-- them, count for nothing.
-- Whole transactions are looked at, about as many as hold $3 events: at the end of a page all that has a place before
-- ``until`` was told. One row more comes first, with ``until``, ``settled`` (nothing younger can be told yet), ``next`` (not
-- given to a transaction yet) and ``mark`` (events before it may be gone).
WITH now_ AS MATERIALIZED (
    SELECT pg_snapshot_xmin(s) AS settled, pg_snapshot_xmax(s) AS next,
           (SELECT transaction_id FROM email_events_mark) AS mark
    FROM pg_current_snapshot() AS s
),
bounds AS MATERIALIZED (
    SELECT n.*, coalesce((SELECT e.transaction_id
                          FROM email_events e
                          WHERE e.transaction_id > $1::bigint::text::xid8 AND e.transaction_id < n.settled
                          ORDER BY e.transaction_id, e.sequence
                          OFFSET $3::int LIMIT 1), n.settled) AS until
    FROM now_ n
),
touched AS MATERIALIZED (
    SELECT DISTINCT e.email_id
    FROM bounds b
    JOIN email_events e ON e.transaction_id >= $1::bigint::text::xid8 AND e.transaction_id < b.until
),
placed AS (
    SELECT p.*
    FROM bounds b
    CROSS JOIN touched t
    -- OFFSET 0: each email's by its index, whatever the statistics say of how many were touched.
    CROSS JOIN LATERAL (
        SELECT e.*, max(CASE WHEN e.transaction_id < b.next THEN e.transaction_id::text::bigint ELSE 0 END)
                        OVER (ORDER BY e.sequence) AS place
        FROM email_events e
        WHERE e.email_id = t.email_id
        OFFSET 0
    ) p
),
page AS (
    SELECT p.place, p.sequence, p.email_id, p.what, p.status, p.delivery, p.at, p.attempt, p.reason, p.provider_message_id
    FROM placed p
    JOIN bounds b ON p.place < b.until::text::bigint
    WHERE (p.place, p.sequence) > ($1::bigint, $2::bigint)
    ORDER BY p.place, p.sequence
    LIMIT $3
)
SELECT b.until::text::bigint AS until, b.settled::text::bigint AS settled, b.next::text::bigint AS next,
       b.mark::text::bigint AS mark, page.*
FROM bounds b
LEFT JOIN page ON true
ORDER BY page.place, page.sequence
