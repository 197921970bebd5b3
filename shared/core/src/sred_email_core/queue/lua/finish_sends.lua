#!lua flags=allow-oom
-- Forget sends that need no repeat any more.
--
-- KEYS[1]  retry ZSET
-- KEYS[2]  places HASH
-- ARGV     for each email of such a send: email_id, email_id of the send's first
--
-- Returns  how many emails had their place there
local finished = 0
for i = 1, #ARGV, 2 do
  if redis.call('HGET', KEYS[2], ARGV[i]) == 'send:' .. ARGV[i + 1] then
    redis.call('HDEL', KEYS[2], ARGV[i])
    redis.call('ZREM', KEYS[1], ARGV[i])
    finished = finished + 1
  end
end
return finished
