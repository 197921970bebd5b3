-- Note that events were worked; of each only what tells it apart is kept.
--   $1 svix_ids text[]
UPDATE email_webhook_events
SET worked_at = now(), detail = NULL, suppress = NULL
WHERE svix_id = ANY ($1::text[])
