-- Put emails on their streams, or, where they are not due yet, into the retry set; each only if it has no place yet:
-- safe to repeat, and safe against another publisher.
--
-- KEYS[1..3]  streams HIGH, NORMAL, LOW
-- KEYS[4]     retry ZSET      member = email_id, score = due, Unix ms
-- KEYS[5]     places HASH     field = email_id, value = where the email is
-- KEYS[6]     parked HASH     field = email_id, value = hints, a line feed, message
-- KEYS[7]     doorbell LIST   wakes one idle consumer
-- ARGV        for each email: lane (1..3), email_id, ms until it is due (0: now), hints (what take needs to know),
--             message (serialized EmailStreamMessage)
--
-- Returns  how many were put there
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local published, ring = 0, false
for i = 1, #ARGV, 5 do
  local lane, email_id, delay, hints, message = tonumber(ARGV[i]), ARGV[i + 1], tonumber(ARGV[i + 2]), ARGV[i + 3], ARGV[i + 4]
  if redis.call('HEXISTS', KEYS[5], email_id) == 0 then
    if delay > 0 then
      redis.call('HSET', KEYS[6], email_id, hints .. '\n' .. message)
      redis.call('ZADD', KEYS[4], now + delay, email_id)
      redis.call('HSET', KEYS[5], email_id, 'retry:' .. lane)
    else
      local entry = redis.call('XADD', KEYS[lane], '*', 'email_id', email_id, 'hints', hints, 'message', message)
      redis.call('HSET', KEYS[5], email_id, 'stream:' .. lane .. ':' .. entry)
      ring = true
    end
    published = published + 1
  end
end
if ring then
  redis.call('LPUSH', KEYS[7], '1')
  redis.call('LTRIM', KEYS[7], 0, 0)
end
return published
