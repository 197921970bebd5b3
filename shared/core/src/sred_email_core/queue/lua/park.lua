#!lua flags=allow-oom
-- Move emails whose request was definitely refused from their streams to the retry set, or, where they need not wait,
-- to the end of their stream; each only if the caller still owns its entry.
--
-- KEYS[1..3]  streams HIGH, NORMAL, LOW
-- KEYS[4]     retry ZSET      member = email_id, score = due, Unix ms
-- KEYS[5]     places HASH
-- KEYS[6]     parked HASH     field = email_id, value = hints, a line feed, message
-- KEYS[7]     doorbell LIST
-- ARGV[1]     consumer group      ARGV[2]  consumer
-- ARGV        then for each email: lane (1..3), entry id, email_id, delay in ms, 1 if it goes alone from now on
--
-- Returns  how many were moved
--
-- The entry is deleted before anything is written, so that it works in a full Redis.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local parked, ring = 0, false
for i = 3, #ARGV, 5 do
  local stream, entry, email_id, delay = KEYS[tonumber(ARGV[i])], ARGV[i + 1], ARGV[i + 2], tonumber(ARGV[i + 3])
  local pending = redis.pcall('XPENDING', stream, ARGV[1], entry, entry, 1)
  if not pending.err and pending[1] and pending[1][2] == ARGV[2] then
    local read = redis.call('XRANGE', stream, entry, entry)
    redis.call('XACK', stream, ARGV[1], entry)
    redis.call('XDEL', stream, entry)
    local message, hints = nil, '0 1 0'
    if read[1] then
      for f = 1, #read[1][2], 2 do
        if read[1][2][f] == 'message' then
          message = read[1][2][f + 1]
        elseif read[1][2][f] == 'hints' then
          hints = read[1][2][f + 1]
        end
      end
    end
    if not string.match(hints, '^%d+ [01] %d+') then
      hints = '0 1 0' -- no entry of ours: it goes alone
    end
    if ARGV[i + 4] == '1' then
      hints = string.gsub(hints, '^(%d+) [01] ', '%1 1 ')
    end
    if not message then
      redis.call('HDEL', KEYS[5], email_id)
    elseif delay > 0 then
      redis.call('HSET', KEYS[6], email_id, hints .. '\n' .. message)
      redis.call('ZADD', KEYS[4], now + delay, email_id)
      redis.call('HSET', KEYS[5], email_id, 'retry:' .. ARGV[i])
    else
      local new = redis.call('XADD', stream, '*', 'email_id', email_id, 'hints', hints, 'message', message)
      redis.call('HSET', KEYS[5], email_id, 'stream:' .. ARGV[i] .. ':' .. new)
      ring = true
    end
    parked = parked + 1
  end
end
if ring then
  redis.call('LPUSH', KEYS[7], '1')
  redis.call('LTRIM', KEYS[7], 0, 0)
end
return parked
