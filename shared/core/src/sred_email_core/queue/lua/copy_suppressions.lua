#!lua flags=allow-oom
-- Bring the copy of the suppressions forward, from the version that it has to a later one.
--
-- KEYS[1]  suppressions HASH   version; complete: it has every change up to there; entries: of the other
-- KEYS[2]  suppressed HASH     field = digest of an address, value = until when, Unix ms; 0: until it is removed
-- ARGV[1]  version that the copy must have, 0: none   ARGV[2]  version that it has then; 0: the copy is dropped
-- ARGV[3]  1: there are no more changes
-- ARGV     then for each change: digest, until when (Unix ms); 0: until it is removed; -1: the address is free
--
-- Returns  version that the copy has now
--
-- Who comes with another version than the copy has, was overtaken or knows another Redis, and goes on from what is told
-- here. A copy that has lost entries counts as none: it is made anew, and nobody goes by it before it is complete.
local entries = redis.call('HLEN', KEYS[2])
local version = tonumber(redis.call('HGET', KEYS[1], 'version') or 0)
if tonumber(redis.call('HGET', KEYS[1], 'entries') or 0) ~= entries then
  version = 0
end
if version ~= tonumber(ARGV[1]) then
  return version
end
if version == 0 or ARGV[2] == '0' then
  redis.call('UNLINK', KEYS[1], KEYS[2])
end
if ARGV[2] == '0' then
  return 0
end
for i = 4, #ARGV, 2 do
  if ARGV[i + 1] == '-1' then
    redis.call('HDEL', KEYS[2], ARGV[i])
  else
    redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
  end
end
redis.call('HSET', KEYS[1], 'version', ARGV[2], 'entries', redis.call('HLEN', KEYS[2]))
if ARGV[3] == '1' then
  redis.call('HSET', KEYS[1], 'complete', '1')
end
return tonumber(ARGV[2])
