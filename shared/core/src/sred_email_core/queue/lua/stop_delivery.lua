#!lua flags=allow-oom
-- Tell that a request failed for no fault of its emails. Enough of them one after the other, each of another send, stop
-- delivery for every replica until a probe is accepted.
--
-- KEYS[1]  dispatch HASH   see keys.py
-- KEYS[2]  failures SET    names of what failed one after the other
-- KEYS[3]  refusals HASH
-- ARGV[1]  state to stop in   ARGV[2]  reason   ARGV[3]  name of what failed   ARGV[4]  how many stop delivery
-- ARGV[5]  ms until a probe   ARGV[6]  first email_id of the request: the next probe is another one
-- ARGV[7]  number of the state that this request probed (0: none)
-- ARGV[8]  name of the refusals that are the cause (empty: another cause)
--
-- Returns  1 if delivery is stopped now, else 0
--
-- While it is stopped, a probe that failed says why from now on; what other requests say, which were under way when it
-- stopped, changes nothing.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local STATES = {PROVIDER_DOWN = true, MISCONFIGURED = true, QUOTA_EXHAUSTED = true}
local wait = tonumber(ARGV[5])
local told = redis.call('HMGET', KEYS[1], 'state', 'number', 'probing', 'probed_at')
local number = tonumber(string.match(told[2] or '', '^[1-9]%d?%d?%d?%d?%d?%d?%d?%d?%d?$')) or 0
if STATES[told[1]] then
  if ARGV[7] ~= '0' and told[3] == ARGV[7] and told[2] == ARGV[7] then
    local next_probe = (tonumber(told[4]) or now) + wait
    if ARGV[1] == 'QUOTA_EXHAUSTED' or next_probe < now then
      next_probe = now + (ARGV[1] == 'QUOTA_EXHAUSTED' and wait or 0)
    end
    redis.call('HDEL', KEYS[1], 'probing')
    redis.call('HSET', KEYS[1], 'state', ARGV[1], 'reason', ARGV[2], 'probe_at', next_probe, 'refused_name', ARGV[8])
  end
  return 1
end
redis.call('SADD', KEYS[2], ARGV[3])
if redis.call('SCARD', KEYS[2]) < tonumber(ARGV[4]) then
  redis.call('PEXPIRE', KEYS[2], 3600000)
  return 0
end
redis.call('DEL', KEYS[2], KEYS[3])
redis.call('HDEL', KEYS[1], 'probing')
redis.call('HSET', KEYS[1], 'state', ARGV[1], 'reason', ARGV[2], 'since', now, 'number', string.format('%.0f', number + 1),
  'probe_at', now + wait, 'cause', ARGV[6], 'refused_name', ARGV[8])
return 1
