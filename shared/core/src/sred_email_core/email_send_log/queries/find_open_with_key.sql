-- Whether an open email is encrypted with a key: the first such email, of one page of open emails in order of their ids, and
-- where the next page begins (NULL: this is the last).
--   $1 how the messages begin that are encrypted with it, bytea
--   $2 where the page begins, uuid
--   $3 emails of a page
--
-- Of contents only the beginning is read.
WITH page AS (
    SELECT (SELECT id FROM email_send_log WHERE ended_at IS NULL AND id >= $2 ORDER BY id OFFSET $3::integer LIMIT 1) AS next
)
SELECT page.next, (
    SELECT id
    FROM email_send_log
    WHERE ended_at IS NULL AND id >= $2 AND id < coalesce(page.next, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
      AND substring(message FROM 1 FOR octet_length($1::bytea)) = $1
    ORDER BY id
    LIMIT 1
) AS found
FROM page
