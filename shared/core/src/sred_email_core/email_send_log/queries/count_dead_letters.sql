-- How many dead letters are open, and how many of them are to be worked on.
--   $1 reason text (NULL: any)   $2 failed_until timestamptz (NULL: any)
--   $3 what a replay takes bool (NULL: all; true: also what the recipient may have already; false: not that)
--
-- What a replay takes is told by the letters alone, as far as they tell it: replay_dead_letters.sql has the last word.
SELECT count(*)::bigint AS dead_letters,
       count(*) FILTER (WHERE $3::boolean IS NULL
           OR (content_left_at IS NULL AND reason NOT IN ('MALFORMED', 'POISON')
               AND ($3 OR (reason <> 'OUTCOME_UNKNOWN' AND (NOT may_have_been_accepted OR repeatable_until > now())))))::bigint
           AS selected
FROM email_dead_letters
WHERE resolved_at IS NULL
  AND ($1::text IS NULL OR reason = $1)
  AND ($2::timestamptz IS NULL OR failed_at <= $2)
