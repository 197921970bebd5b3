#!lua flags=allow-oom
-- Let sends that can't be repeated yet be due later.
--
-- KEYS[1]  retry ZSET      member = email_id of the send's first email, score = due, Unix ms
-- KEYS[2]  places HASH
-- ARGV     for each send: email_id of its first, delay in ms
--
-- Returns  how many are due later now
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local postponed = 0
for i = 1, #ARGV, 2 do
  local place = redis.call('HGET', KEYS[2], ARGV[i]) or ''
  if string.sub(place, 1, 5) == 'send:' and redis.call('ZSCORE', KEYS[1], ARGV[i]) then
    redis.call('ZADD', KEYS[1], 'XX', now + tonumber(ARGV[i + 1]), ARGV[i])
    postponed = postponed + 1
  end
end
return postponed
