-- Let the version of the pauses be higher than one that a copy has.
--   $1 version bigint
INSERT INTO email_operation_settings AS s (name, version) VALUES ('pauses', $1::bigint + 1)
ON CONFLICT (name) DO UPDATE SET version = greatest(s.version, excluded.version)
