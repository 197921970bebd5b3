-- The next events of some emails, in order for each; see events_of_all.sql for what a place is.
--   $1 place bigint, $2 sequence bigint (of the last one seen)   $3 how many int   $4 email_ids uuid[]
--
-- One row at least comes back, as there: ``until`` is ``settled``.
WITH now_ AS MATERIALIZED (
    SELECT pg_snapshot_xmin(s) AS settled, pg_snapshot_xmax(s) AS next,
           (SELECT transaction_id FROM email_events_mark) AS mark
    FROM pg_current_snapshot() AS s
),
placed AS (
    SELECT p.*
    FROM now_ n
    CROSS JOIN unnest($4::uuid[]) AS t (email_id)
    CROSS JOIN LATERAL (
        SELECT e.*, max(CASE WHEN e.transaction_id < n.next THEN e.transaction_id::text::bigint ELSE 0 END)
                        OVER (ORDER BY e.sequence) AS place
        FROM email_events e
        WHERE e.email_id = t.email_id
        OFFSET 0
    ) p
),
page AS (
    SELECT p.place, p.sequence, p.email_id, p.what, p.status, p.delivery, p.at, p.attempt, p.reason, p.provider_message_id
    FROM placed p
    JOIN now_ n ON p.place < n.settled::text::bigint
    WHERE (p.place, p.sequence) > ($1::bigint, $2::bigint)
    ORDER BY p.place, p.sequence
    LIMIT $3::int
)
SELECT n.settled::text::bigint AS until, n.settled::text::bigint AS settled, n.next::text::bigint AS next,
       n.mark::text::bigint AS mark, page.*
FROM now_ n
LEFT JOIN page ON true
ORDER BY page.place, page.sequence
