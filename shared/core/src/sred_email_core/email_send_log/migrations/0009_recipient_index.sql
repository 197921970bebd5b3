-- Emails of one recipient, in the order of their acceptance.

-- A hash keeps all emails of one recipient in one chain, and each further one was entered by going through it: where a
-- million had gone to one address, recording an email cost PostgreSQL eight times as much. In a tree they have an order.
DROP INDEX email_send_log_recipient;
CREATE INDEX email_send_log_recipient ON email_send_log ((recipients[1]), created_at) WHERE ended_at IS NOT NULL;
