-- Forget an address wherever it stands beside the emails; one row comes back for each dead letter that is closed by it.
--   $1 address text, normalised   $2 the same as encode(…, 'escape') writes it   $3 digest bytea
--
-- A suppression stays in force: its digest says enough.
WITH suppression AS (
    UPDATE email_suppressions SET address = 'erased:' || encode(digest, 'hex') WHERE digest = $3::bytea AND address IS NOT NULL
),
events AS (
    UPDATE email_webhook_events
    SET detail = CASE WHEN strpos(lower(detail), $1::text) > 0 THEN NULL ELSE detail END,
        suppress = CASE WHEN suppress <> $1 THEN suppress END
    WHERE suppress = $1 OR strpos(lower(detail), $1) > 0
),
audited AS (
    UPDATE email_audit SET detail = 'erased' WHERE strpos(lower(detail), $1) > 0
),
said AS (
    UPDATE email_dead_letters
    SET error = CASE WHEN strpos(lower(error), $1) > 0 THEN 'erased' ELSE error END,
        note = CASE WHEN strpos(lower(note), $1) > 0 THEN NULL ELSE note END
    WHERE email_id IS NOT NULL AND (strpos(lower(error), $1) > 0 OR strpos(lower(note), $1) > 0)
)
UPDATE email_dead_letters
SET error = 'erased', note = NULL, raw_entry = NULL, resolution = coalesce(resolution, 'DISCARDED'),
    resolved_at = coalesce(resolved_at, now())
WHERE email_id IS NULL AND error <> 'erased'
  AND (strpos(lower(error), $1) > 0 OR strpos(lower(note), $1) > 0
       OR (raw_entry IS NOT NULL AND strpos(lower(encode(raw_entry, 'escape')), $2::text) > 0))
RETURNING id::text AS dead_letter_id
