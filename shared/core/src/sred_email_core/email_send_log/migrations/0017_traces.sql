-- The trace that an email belongs to.

-- A W3C traceparent, whose span is the one that accepted the email; NULL: of no trace, or not traced.
ALTER TABLE email_send_log ADD COLUMN traceparent text;
