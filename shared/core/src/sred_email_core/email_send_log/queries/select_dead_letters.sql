-- Open dead letters to be worked on, the oldest first, from a place on.
--   $1 reason text (NULL: any)   $2 failed_until timestamptz (NULL: any)
--   $4 after_failed_at timestamptz, $5 after_id uuid (NULL: from the start)   $6 how many int
--   $3 what a replay takes bool (NULL: all; true: also what the recipient may have already; false: not that)
--
-- What a replay takes is told by the letters alone, as far as they tell it: replay_dead_letters.sql has the last word.
SELECT id, failed_at
FROM email_dead_letters
WHERE resolved_at IS NULL
  AND ($1::text IS NULL OR reason = $1)
  AND ($2::timestamptz IS NULL OR failed_at <= $2)
  AND ($3::boolean IS NULL
       OR (content_left_at IS NULL AND reason NOT IN ('MALFORMED', 'POISON')
           AND ($3 OR (reason <> 'OUTCOME_UNKNOWN' AND (NOT may_have_been_accepted OR repeatable_until > now())))))
  AND ($4::timestamptz IS NULL OR (failed_at, id) > ($4, $5::uuid))
ORDER BY failed_at, id
LIMIT $6
