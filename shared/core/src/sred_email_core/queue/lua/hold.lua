#!lua flags=allow-oom
-- Hold delivery for every replica for a while, because a request was one too many; a longer hold that is in force stays.
--
-- KEYS[1]  dispatch HASH   hold_reason, set (Unix ms), until (Unix ms), exceeded (Unix ms)
-- ARGV[1]  reason   ARGV[2]  how long, ms
--
-- Returns  when it ends, Unix ms
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ends = now + tonumber(ARGV[2])
redis.call('HSET', KEYS[1], 'exceeded', now) -- take asks for less from then on
local held_until = tonumber(redis.call('HGET', KEYS[1], 'until')) or 0
if held_until >= ends and held_until < now + 32 * 24 * 60 * 60 * 1000 then -- a longer one is none that we made
  return held_until
end
redis.call('HSET', KEYS[1], 'hold_reason', ARGV[1], 'set', now, 'until', ends)
return ends
