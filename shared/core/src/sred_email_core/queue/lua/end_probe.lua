#!lua flags=allow-oom
-- Tell what came of a probe: delivery goes on if it was accepted, else another email is tried.
--
-- KEYS[1]  dispatch HASH   see keys.py
-- KEYS[2]  failures SET    KEYS[3]  refusals HASH   KEYS[4]  doorbell LIST
-- ARGV[1]  number of the state that was probed (0: whatever it is)   ARGV[2]  1 if the probe was accepted
-- ARGV[3]  ms until another is tried
--
-- Returns  1 if delivery goes on, else 0
--
-- A probe that was reported before changes nothing here, unless it was accepted: that is a fact, however late.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local told = redis.call('HMGET', KEYS[1], 'state', 'number', 'probing')
local going_on = 0
if ARGV[1] ~= '0' and told[2] ~= ARGV[1] or not told[1] then
  return 0
end
if ARGV[2] == '1' then
  redis.call('HDEL', KEYS[1], 'state', 'reason', 'since', 'probe_at', 'probing', 'probed_at', 'cause', 'refused_name')
  redis.call('DEL', KEYS[2], KEYS[3])
  going_on = 1
elseif ARGV[1] == '0' or told[3] == ARGV[1] then
  redis.call('HDEL', KEYS[1], 'probing')
  redis.call('HSET', KEYS[1], 'probe_at', now + tonumber(ARGV[3]))
else
  return 0
end
redis.call('LPUSH', KEYS[4], '1')
redis.call('LTRIM', KEYS[4], 0, 0)
return going_on
