-- Cancel an email that nothing can have been sent of; one row comes back, which says whether it was, and if not, why.
--   $1 id uuid (locked by this transaction: lock_email)
--
-- An email in an open send is being sent, or its attempt may have been accepted: it is left alone. The content goes with
-- the cancellation.
WITH seen AS (
    SELECT e.id, e.status, e.ended_at IS NOT NULL AS ended, s.id IS NOT NULL AS in_open_send,
           coalesce(s.lease_expires_at > now(), false) AS leased
    FROM email_send_log e
    LEFT JOIN (email_send_members m JOIN email_sends s ON s.id = m.send_id AND s.state = 'OPEN') ON m.email_id = e.id
    WHERE e.id = $1::uuid
),
cancelled AS (
    UPDATE email_send_log e
    SET status = 'CANCELLED', message = NULL, next_attempt_at = NULL, ended_at = now(), updated_at = now()
    FROM seen
    WHERE e.id = seen.id AND NOT seen.ended AND NOT seen.in_open_send
    RETURNING e.id, e.attempts
),
told AS (
    INSERT INTO email_events (email_id, what, status, attempt)
    SELECT id, 'CANCELLED', 'CANCELLED', attempts FROM cancelled
)
SELECT seen.status, seen.ended, seen.in_open_send, seen.leased, cancelled.id IS NOT NULL AS cancelled
FROM seen
LEFT JOIN cancelled ON cancelled.id = seen.id
