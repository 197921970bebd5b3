#!lua flags=no-writes,allow-oom
-- Count what is in the queue.
--
-- KEYS[1..3]  streams HIGH, NORMAL, LOW
-- KEYS[4]     retry ZSET
-- KEYS[5]     places HASH
-- KEYS[6]     parked HASH
--
-- Returns  {entries on the streams, members of the retry set, places, parked messages}
local entries = 0
for lane = 1, 3 do
  entries = entries + redis.call('XLEN', KEYS[lane])
end
return {entries, redis.call('ZCARD', KEYS[4]), redis.call('HLEN', KEYS[5]), redis.call('HLEN', KEYS[6])}
