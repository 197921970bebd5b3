#!lua flags=allow-oom
-- Give sends that are to be repeated their place in the retry set, and take their emails off the streams.
--
-- KEYS[1..3]  streams HIGH, NORMAL, LOW
-- KEYS[4]     retry ZSET      member = email_id of the send's first email, score = due, Unix ms
-- KEYS[5]     places HASH
-- KEYS[6]     doorbell LIST
-- ARGV[1]     consumer group      ARGV[2]  consumer
-- ARGV[3]     1 if the caller holds the leases of these sends in PostgreSQL or has just reopened them, which entitles it
--             to set their places and times; 0 if it only found them there: then it adds what is missing
-- ARGV        then for each email: email_id of the send's first, delay in ms, email_id,
--             lane (1..3) and entry id of the entry it came from ('0' and '' if from none)
--
-- Returns  how many emails have their place in a send now
--
-- An entry that another consumer has claimed meanwhile is left to it; it finds the email's send and drops it.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local entitled = ARGV[3] == '1'
local placed = 0
for i = 4, #ARGV, 5 do
  local first, email_id, stream, entry = ARGV[i], ARGV[i + 2], KEYS[tonumber(ARGV[i + 3])], ARGV[i + 4]
  local place = redis.call('HGET', KEYS[5], email_id)
  local came_from_there = false
  if stream then
    local pending = redis.pcall('XPENDING', stream, ARGV[1], entry, entry, 1)
    if not pending.err and pending[1] and pending[1][2] == ARGV[2] then
      redis.call('XACK', stream, ARGV[1], entry)
      redis.call('XDEL', stream, entry)
    end
    came_from_there = place == 'stream:' .. ARGV[i + 3] .. ':' .. entry
  end
  if entitled or not place or came_from_there or place == 'send:' .. first then
    redis.call('HSET', KEYS[5], email_id, 'send:' .. first)
    placed = placed + 1
    if email_id == first then
      if entitled then
        redis.call('ZADD', KEYS[4], now + tonumber(ARGV[i + 1]), first)
      else
        redis.call('ZADD', KEYS[4], 'NX', now + tonumber(ARGV[i + 1]), first)
      end
    end
  end
end
redis.call('LPUSH', KEYS[6], '1')
redis.call('LTRIM', KEYS[6], 0, 0)
return placed
