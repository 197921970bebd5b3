#!lua flags=allow-oom
-- Move emails whose request was definitely refused from their streams to the retry set, each only if the caller still
-- owns its entry.
--
-- KEYS[1..3]  streams HIGH, NORMAL, LOW
-- KEYS[4]     retry ZSET      member = email_id, score = due, Unix ms
-- KEYS[5]     places HASH
-- KEYS[6]     parked HASH     field = email_id, value = message
-- ARGV[1]     consumer group      ARGV[2]  consumer
-- ARGV        then for each email: lane (1..3), entry id, email_id, delay in ms
--
-- Returns  how many were moved
--
-- The entry is deleted before anything is written, so that it works in a full Redis.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local parked = 0
for i = 3, #ARGV, 4 do
  local stream, entry, email_id = KEYS[tonumber(ARGV[i])], ARGV[i + 1], ARGV[i + 2]
  local pending = redis.pcall('XPENDING', stream, ARGV[1], entry, entry, 1)
  if not pending.err and pending[1] and pending[1][2] == ARGV[2] then
    local read = redis.call('XRANGE', stream, entry, entry)
    redis.call('XACK', stream, ARGV[1], entry)
    redis.call('XDEL', stream, entry)
    local message
    if read[1] then
      for f = 1, #read[1][2], 2 do
        if read[1][2][f] == 'message' then
          message = read[1][2][f + 1]
        end
      end
    end
    if message then
      redis.call('HSET', KEYS[6], email_id, message)
      redis.call('ZADD', KEYS[4], now + tonumber(ARGV[i + 3]), email_id)
      redis.call('HSET', KEYS[5], email_id, 'retry:' .. ARGV[i])
    else
      redis.call('HDEL', KEYS[5], email_id)
    end
    parked = parked + 1
  end
end
return parked
