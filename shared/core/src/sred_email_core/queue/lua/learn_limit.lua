#!lua flags=allow-oom
-- Keep what the provider says of its own limit, for every replica.
--
-- KEYS[1]  dispatch HASH   KEYS[2]  doorbell LIST
-- ARGV[1]  requests per second (0: it does not say, which replaces nothing that is known)
--
-- Returns  what was known before ('': nothing)
local before = redis.call('HGET', KEYS[1], 'provider_limit')
redis.call(ARGV[1] == '0' and 'HSETNX' or 'HSET', KEYS[1], 'provider_limit', ARGV[1])
redis.call('LPUSH', KEYS[2], '1')
redis.call('LTRIM', KEYS[2], 0, 0)
return before or ''
