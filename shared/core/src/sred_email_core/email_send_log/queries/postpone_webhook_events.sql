-- Let events that could not be worked wait, longer each time; those that were received too long ago are given up. One row
-- comes back for each that was given up.
--   $1 svix_ids text[]   $2 patience interval   $3 suppressed bool (their addresses are suppressed by now: that is done once)
WITH postponed AS (
    UPDATE email_webhook_events
    SET tries = tries + 1, due_at = now() + interval '2 s' * 3 ^ least(tries, 8),
        worked_at = CASE WHEN received_at < now() - $2::interval THEN now() END,
        detail = CASE WHEN received_at >= now() - $2::interval THEN detail END,
        suppress = CASE WHEN NOT $3 AND received_at >= now() - $2::interval THEN suppress END
    WHERE svix_id = ANY ($1::text[])
    RETURNING svix_id, worked_at
)
SELECT svix_id FROM postponed WHERE worked_at IS NOT NULL
