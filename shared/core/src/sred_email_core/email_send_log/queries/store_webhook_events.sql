-- Keep events of the provider; one row comes back for each that was not known yet.
--   $1 svix_ids text[]               $2 deliveries text[]       $3 email_ids uuid[]   $4 provider_message_ids text[]
--   $5 occurred_ats timestamptz[]    $6 details text[]          $7 suppress text[]    $8 suppress_reasons text[]
--
-- By id, so that two statements with events in common wait for each other in one direction only.
INSERT INTO email_webhook_events (svix_id, delivery, email_id, provider_message_id, occurred_at, detail, suppress, suppress_reason)
SELECT *
FROM unnest($1::text[], $2::text[], $3::uuid[], $4::text[], $5::timestamptz[], $6::text[], $7::text[], $8::text[]) AS e (svix_id)
ORDER BY svix_id
ON CONFLICT (svix_id) DO NOTHING
RETURNING svix_id
