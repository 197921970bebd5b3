-- Let the version of the list be higher than one that a copy has.
--   $1 version bigint
INSERT INTO email_operation_settings AS o (name, version) VALUES ('suppressions', $1::bigint + 1)
ON CONFLICT (name) DO UPDATE SET version = greatest(o.version, excluded.version)
