-- Open dead letters of one group to be worked on, the oldest first, from a place on.
--   $1 reason text   $2 error_group text   $3 failed_until timestamptz (NULL: any)
--   $5 after_failed_at timestamptz, $6 after_id uuid (NULL: from the start)   $7 how many int
--   $4 what a replay takes bool (NULL: all; true: also what the recipient may have already; false: not that)
--
-- What a replay takes is told by the letters alone, as far as they tell it: replay_dead_letters.sql has the last word.
SELECT id, failed_at
FROM email_dead_letters
WHERE resolved_at IS NULL AND reason = $1 AND error_group = $2
  AND ($3::timestamptz IS NULL OR failed_at <= $3)
  AND ($4::boolean IS NULL
       OR (content_left_at IS NULL AND reason NOT IN ('MALFORMED', 'POISON')
           AND ($4 OR (reason <> 'OUTCOME_UNKNOWN' AND (NOT may_have_been_accepted OR repeatable_until > now())))))
  AND ($5::timestamptz IS NULL OR (failed_at, id) > ($5, $6::uuid))
ORDER BY failed_at, id
LIMIT $7
