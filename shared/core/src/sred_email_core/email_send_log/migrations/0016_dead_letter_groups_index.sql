-- concurrently
-- Open dead letters by their groups, the letters of before included.
DROP INDEX CONCURRENTLY IF EXISTS email_dead_letters_groups;
CREATE INDEX CONCURRENTLY email_dead_letters_groups
    ON email_dead_letters (reason, error_group, failed_at, id) INCLUDE (may_have_been_accepted) WHERE resolved_at IS NULL;
CALL email_dead_letters_group_old();
