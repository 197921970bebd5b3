#!lua flags=allow-oom
-- Tell that a granted request goes out now: it counts from now on, since it may have waited for PostgreSQL or a connection.
--
-- KEYS[1]  grants ZSET   member = number of a grant, score = when its request was granted or went out, Unix ms
-- ARGV[1]  number of the grant
--
-- Returns  nothing of use
--
-- A grant that has left the window comes back: the provider counts the request, whatever we granted meanwhile.
local time = redis.call('TIME')
return redis.call('ZADD', KEYS[1], time[1] * 1000 + math.floor(time[2] / 1000), ARGV[1])
