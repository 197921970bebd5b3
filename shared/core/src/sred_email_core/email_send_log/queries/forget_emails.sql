-- Remove emails from the log, with their sends and their handled letters; one row comes back for each that was removed.
--   $1 ids uuid[] (locked by this transaction: find_leaving)   $2 horizon interval   $3 events_for interval
--
-- What stays: an email whose letter is open; one in a send that is open, within its horizon, or needed by another letter that
-- is open; one that something happened to lately, which watchers may not have been told.
WITH asked AS (
    SELECT e.id
    FROM email_send_log e
    WHERE e.id = ANY ($1::uuid[])
      AND NOT EXISTS (SELECT FROM email_dead_letters d WHERE d.email_id = e.id AND d.resolved_at IS NULL)
      AND NOT EXISTS (SELECT FROM email_events v WHERE v.email_id = e.id AND v.at > now() - $3::interval)
      AND NOT EXISTS (SELECT
                      FROM email_send_members m
                      JOIN email_sends s ON s.id = m.send_id
                      WHERE m.email_id = e.id
                        AND (s.state = 'OPEN' OR s.first_post_at > now() - $2::interval
                             OR EXISTS (SELECT
                                        FROM email_send_members o
                                        JOIN email_send_log l ON l.id = o.email_id
                                        WHERE o.send_id = s.id
                                          AND (l.ended_at IS NULL
                                               OR EXISTS (SELECT FROM email_dead_letters d
                                                          WHERE d.email_id = l.id AND d.resolved_at IS NULL)))))
),
left_ AS (
    DELETE FROM email_send_members m USING asked a WHERE m.email_id = a.id RETURNING m.send_id
),
done AS (
    DELETE FROM email_sends s
    WHERE s.id IN (SELECT send_id FROM left_)
      AND NOT EXISTS (SELECT FROM email_send_members m WHERE m.send_id = s.id AND m.email_id NOT IN (SELECT id FROM asked))
),
letters AS (
    DELETE FROM email_dead_letters d USING asked a WHERE d.email_id = a.id
),
erasures AS (
    DELETE FROM email_erasures r USING asked a WHERE r.email_id = a.id
)
DELETE FROM email_send_log e USING asked a WHERE e.id = a.id RETURNING e.id
