-- Whose token each email came with. The version before knows nothing of it, and goes on writing rows without.
ALTER TABLE email_send_log ADD COLUMN caller text;
