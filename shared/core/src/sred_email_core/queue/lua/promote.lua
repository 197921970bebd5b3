#!lua flags=allow-oom
-- Move parked emails that have come due back onto their streams.
--
-- KEYS[1..3]  streams HIGH, NORMAL, LOW
-- KEYS[4]     retry ZSET      member = email_id, score = due, Unix ms
-- KEYS[5]     places HASH
-- KEYS[6]     parked HASH     field = email_id, value = hints, a line feed, message
-- KEYS[7]     doorbell LIST
-- ARGV[1]     most members to look at in one call (bounds the time Redis is blocked)
-- ARGV[2]     how many due members to pass over: sends that an earlier call has seen
--
-- Returns  {how many were moved, how many stay: sends, ms until the next is due, at most an hour (-1:
--           none is waiting)}
--
-- ZREM and HDEL precede XADD, so that it works in a full Redis: what a dying script drops, the reconciler republishes.
-- Sends that wait for their repeat stay: take picks them up. A member that is neither is no email of ours and goes.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local due = redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', now, 'LIMIT', ARGV[2], ARGV[1])
local moved, staying = 0, 0
for _, email_id in ipairs(due) do
  local place = redis.call('HGET', KEYS[5], email_id) or ''
  if string.sub(place, 1, 5) == 'send:' then
    staying = staying + 1
  else
    local lane = tonumber(string.match(place, '^retry:([123])$') or 0)
    local hints, message = string.match(redis.call('HGET', KEYS[6], email_id) or '', '^([^\n]*)\n(.*)$')
    redis.call('ZREM', KEYS[4], email_id)
    redis.call('HDEL', KEYS[6], email_id)
    if lane > 0 then
      redis.call('HDEL', KEYS[5], email_id)
      if message then
        local entry = redis.call('XADD', KEYS[lane], '*', 'email_id', email_id, 'hints', hints, 'message', message)
        redis.call('HSET', KEYS[5], email_id, 'stream:' .. lane .. ':' .. entry)
        moved = moved + 1
      end
    end
  end
end
if moved > 0 then
  redis.call('LPUSH', KEYS[7], '1')
  redis.call('LTRIM', KEYS[7], 0, 0)
end
local next_due = redis.call('ZRANGEBYSCORE', KEYS[4], '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
return {moved, staying, next_due[2] and math.min(math.max(1, math.floor(tonumber(next_due[2]) - now)), 3600000) or -1}
