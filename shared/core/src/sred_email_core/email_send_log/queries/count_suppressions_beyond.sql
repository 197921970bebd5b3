-- Let the version of the list be higher than one that a copy has.
--   $1 version bigint
UPDATE email_operation_settings SET version = greatest(version, $1::bigint + 1) WHERE name = 'suppressions'
