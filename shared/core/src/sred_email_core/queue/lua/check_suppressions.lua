#!lua flags=no-writes,allow-oom
-- Say which addresses get no email now.
--
-- KEYS[1]  suppressions HASH   version; complete: it has every change up to there; entries: of the other
-- KEYS[2]  suppressed HASH     field = digest of an address, value = until when, Unix ms; 0: until it is removed
-- ARGV     digests of addresses
--
-- Returns  {version; 0: there is no complete copy, numbers of the addresses (1, 2, …) that are suppressed …}
local about = redis.call('HMGET', KEYS[1], 'version', 'complete', 'entries')
local entries = redis.call('HLEN', KEYS[2])
if not about[1] or about[2] ~= '1' or tonumber(about[3]) ~= entries then
  return {0}
end
local found = {tonumber(about[1])}
if entries == 0 or #ARGV == 0 then
  return found
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for first = 1, #ARGV, 1000 do
  local ends = redis.call('HMGET', KEYS[2], unpack(ARGV, first, math.min(first + 999, #ARGV)))
  for i, til in ipairs(ends) do
    if til and (til == '0' or tonumber(til) > now) then
      found[#found + 1] = first + i - 1
    end
  end
end
return found
