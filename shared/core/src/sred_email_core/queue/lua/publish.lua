-- Put emails on their streams, each only if it has no place yet: safe to repeat, and safe against another publisher.
--
-- KEYS[1..3]  streams HIGH, NORMAL, LOW
-- KEYS[4]     places HASH     field = email_id, value = where the email is
-- KEYS[5]     doorbell LIST   wakes one idle consumer
-- ARGV        for each email: lane (1..3), email_id, message (serialized EmailStreamMessage)
--
-- Returns  how many were put there
local published = 0
for i = 1, #ARGV, 3 do
  local lane, email_id, message = tonumber(ARGV[i]), ARGV[i + 1], ARGV[i + 2]
  if redis.call('HEXISTS', KEYS[4], email_id) == 0 then
    local entry = redis.call('XADD', KEYS[lane], '*', 'email_id', email_id, 'message', message)
    redis.call('HSET', KEYS[4], email_id, 'stream:' .. lane .. ':' .. entry)
    published = published + 1
  end
end
if published > 0 then
  redis.call('LPUSH', KEYS[5], '1')
  redis.call('LTRIM', KEYS[5], 0, 0)
end
return published
