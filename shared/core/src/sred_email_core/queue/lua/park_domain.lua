#!lua flags=allow-oom
-- Let the emails of a sender domain wait that the provider refuses; take tries one of them after the wait.
--
-- KEYS[1]  domains HASH   field = domain, value = when to try it, Unix ms, a space, why
-- ARGV[1]  domain   ARGV[2]  why   ARGV[3]  ms until it is tried
--
-- Returns  how many domains wait
--
-- A domain whose emails nobody sends any more is forgotten after a day.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local told = redis.call('HGETALL', KEYS[1])
for i = 1, #told, 2 do
  local due = tonumber(string.match(told[i + 1], '^(%d+) ')) or 0
  if due < now - 24 * 60 * 60 * 1000 then
    redis.call('HDEL', KEYS[1], told[i])
  end
end
redis.call('HSET', KEYS[1], ARGV[1], (now + tonumber(ARGV[3])) .. ' ' .. ARGV[2])
return redis.call('HLEN', KEYS[1])
