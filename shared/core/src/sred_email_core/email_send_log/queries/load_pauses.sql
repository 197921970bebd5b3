-- The version of the pauses, beside each paused lane and its reason: one row without a lane if none is paused, no row if
-- none ever was.
SELECT s.version, p.lane, p.reason
FROM email_operation_settings s
LEFT JOIN email_pauses p ON true
WHERE s.name = 'pauses'
