-- Open dead letters in groups: the same reason, and the same error but for addresses and numbers. The largest group first.
--   $1 most groups int   $2 most letters to count in a group int
--
-- Goes from one group to the next by the index, and counts each up to a bound: what it reads is bounded whatever there is.
WITH RECURSIVE groups AS (
    (SELECT reason, error_group, 1 AS number
     FROM email_dead_letters
     WHERE resolved_at IS NULL
     ORDER BY reason, error_group
     LIMIT 1)
    UNION ALL
    SELECT n.reason, n.error_group, g.number + 1
    FROM groups g
    CROSS JOIN LATERAL (
        SELECT d.reason, d.error_group
        FROM email_dead_letters d
        WHERE d.resolved_at IS NULL AND (d.reason, d.error_group) > (g.reason, g.error_group)
        ORDER BY d.reason, d.error_group
        LIMIT 1
    ) n
    WHERE g.number < $1::int
)
SELECT g.reason, g.error_group, least(c.letters, $2::int) AS letters, c.letters > $2::int AS more, c.may_have_been_accepted,
       (SELECT min(d.failed_at) FROM email_dead_letters d
        WHERE d.resolved_at IS NULL AND d.reason = g.reason AND d.error_group = g.error_group) AS oldest,
       (SELECT max(d.failed_at) FROM email_dead_letters d
        WHERE d.resolved_at IS NULL AND d.reason = g.reason AND d.error_group = g.error_group) AS latest
FROM groups g
CROSS JOIN LATERAL (
    SELECT count(*) AS letters, coalesce(bool_or(l.may_have_been_accepted), false) AS may_have_been_accepted
    FROM (SELECT d.may_have_been_accepted
          FROM email_dead_letters d
          WHERE d.resolved_at IS NULL AND d.reason = g.reason AND d.error_group = g.error_group
          LIMIT $2::int + 1) l
) c
ORDER BY letters DESC, g.reason, g.error_group
