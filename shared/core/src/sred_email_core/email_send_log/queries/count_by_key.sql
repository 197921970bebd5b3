-- How many emails are encrypted with each key, of those that still have a content; each key as the beginning of a
-- serialized EncryptedContent: its id (at most 64 bytes) and its check value (8 bytes).
--
-- Of contents only the beginning is read; all of the log is.
SELECT substring(head FROM 2 FOR 12 + get_byte(head, 2)) AS key, count(*) AS emails
FROM (SELECT substring(message FROM 1 FOR 80) AS head FROM email_send_log WHERE message IS NOT NULL) m
WHERE substring(head FROM 1 FOR 1) = '\x00'::bytea AND octet_length(head) > 3
GROUP BY 1
