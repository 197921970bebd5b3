-- concurrently
-- Handled letters of entries that were no emails, by when they were handled: the others leave with their emails. For emails no
-- index is needed: they are looked through in the order of email_send_log_created, so that neither acceptance nor the record
-- of an end pays for it.
DROP INDEX CONCURRENTLY IF EXISTS email_dead_letters_handled;
CREATE INDEX CONCURRENTLY email_dead_letters_handled ON email_dead_letters (resolved_at)
    WHERE email_id IS NULL AND resolved_at IS NOT NULL;
