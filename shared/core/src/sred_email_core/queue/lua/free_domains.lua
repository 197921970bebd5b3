#!lua flags=allow-oom
-- Let the emails of sender domains go again: the provider has accepted one.
--
-- KEYS[1]  domains HASH
-- ARGV     the domains
--
-- Returns  how many had waited
return redis.call('HDEL', KEYS[1], unpack(ARGV))
