-- Storage for a log that grows and a working set that comes and goes within seconds.

-- Half of each page is left for the claim's version of its rows, so that QUEUED → SENDING stays on the page and touches
-- no index (HOT: with full pages 4 % of updates, now half: each claim). The record of the end can't be: it leaves the index
-- of open emails.
-- Vacuum after 10,000 changed rows and not after a fifth of the table: a million rows would wait for 200,000.
ALTER TABLE email_send_log SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.01,
                                autovacuum_vacuum_threshold = 10000, autovacuum_analyze_scale_factor = 0.05);

-- Every row is deleted soon after it was written: what counts is how many have gone, not how many there are.
ALTER TABLE email_sends SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
                             autovacuum_vacuum_cost_delay = 0);
ALTER TABLE email_send_members SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000,
                                    autovacuum_vacuum_cost_delay = 0);
