-- What leaves the log when it has been there for long enough.

-- When an open letter lost what it held, its email's content included; NULL: it has it. The letter itself stays.
ALTER TABLE email_dead_letters ADD COLUMN content_left_at timestamptz;

-- Events leave with their emails, a steady few at a time: vacuum follows after 2 % of them and not after a fifth.
ALTER TABLE email_events SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 10000,
                              autovacuum_analyze_scale_factor = 0.05);
