-- Which of these dead letters are not open any more, or were never there.
--   $1 ids uuid[]
--
-- A scalar subquery keeps the lookup by key: as a join it would read the whole table.
SELECT a.id::text
FROM unnest($1::uuid[]) AS a (id)
WHERE (SELECT d.resolved_at IS NULL FROM email_dead_letters d WHERE d.id = a.id) IS NOT TRUE
