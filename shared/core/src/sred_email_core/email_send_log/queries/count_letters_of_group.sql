-- How many dead letters of one group are open, and how many of them are to be worked on.
--   $1 reason text   $2 error_group text   $3 failed_until timestamptz (NULL: any)
--   $4 what a replay takes bool (NULL: all; true: also what the recipient may have already; false: not that)
--
-- What a replay takes is told by the letters alone, as far as they tell it: replay_dead_letters.sql has the last word.
SELECT count(*)::bigint AS dead_letters,
       count(*) FILTER (WHERE $4::boolean IS NULL
           OR (content_left_at IS NULL AND reason NOT IN ('MALFORMED', 'POISON')
               AND ($4 OR (reason <> 'OUTCOME_UNKNOWN' AND (NOT may_have_been_accepted OR repeatable_until > now())))))::bigint
           AS selected
FROM email_dead_letters
WHERE resolved_at IS NULL AND reason = $1 AND error_group = $2
  AND ($3::timestamptz IS NULL OR failed_at <= $3)
