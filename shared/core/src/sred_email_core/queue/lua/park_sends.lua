#!lua flags=allow-oom
-- Give sends that are to be repeated their place in the retry set, and take their emails off the streams.
--
-- KEYS[1..3]  streams HIGH, NORMAL, LOW
-- KEYS[4]     retry ZSET      member = email_id of the send's first email, score = due, Unix ms
-- KEYS[5]     places HASH
-- KEYS[6]     doorbell LIST
-- ARGV[1]     consumer group      ARGV[2]  consumer
-- ARGV        then for each email: email_id of the send's first, delay in ms, email_id,
--             lane (1..3) and entry id of the entry it came from ('0' and '' if from none)
--
-- Returns  how many emails have their place in a send now
--
-- The caller holds the lease of the send in PostgreSQL, or has just reopened it: that is what entitles it to set the
-- place. An entry that another consumer has claimed meanwhile is left to it; it finds the email's send and drops it.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local placed = 0
for i = 3, #ARGV, 5 do
  local first, email_id, stream, entry = ARGV[i], ARGV[i + 2], KEYS[tonumber(ARGV[i + 3])], ARGV[i + 4]
  if stream then
    local pending = redis.pcall('XPENDING', stream, ARGV[1], entry, entry, 1)
    if not pending.err and pending[1] and pending[1][2] == ARGV[2] then
      redis.call('XACK', stream, ARGV[1], entry)
      redis.call('XDEL', stream, entry)
    end
  end
  redis.call('HSET', KEYS[5], email_id, 'send:' .. first)
  if email_id == first then
    redis.call('ZADD', KEYS[4], now + tonumber(ARGV[i + 1]), first)
  end
  placed = placed + 1
end
redis.call('LPUSH', KEYS[6], '1')
redis.call('LTRIM', KEYS[6], 0, 0)
return placed
