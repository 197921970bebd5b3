#!lua flags=allow-oom
-- Copy the pauses that PostgreSQL holds, unless a newer copy is here.
--
-- KEYS[1]  pauses HASH   version, and why for each lane (1..3) that is paused
-- KEYS[2]  doorbell LIST
-- ARGV[1]  version
-- ARGV     then for each paused lane: lane, why
--
-- Returns  0 if the copy is from now on what was told, else the version of the newer one
local version = tonumber(redis.call('HGET', KEYS[1], 'version'))
if version and version > tonumber(ARGV[1]) and version < 2 ^ 52 then
  return version
end
local lanes = {['1'] = true, ['2'] = true, ['3'] = true}
for i = 2, #ARGV, 2 do
  redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
  lanes[ARGV[i]] = nil
end
redis.call('HSET', KEYS[1], 'version', ARGV[1])
for lane in pairs(lanes) do
  redis.call('HDEL', KEYS[1], lane)
end
redis.call('LPUSH', KEYS[2], '1')
redis.call('LTRIM', KEYS[2], 0, 0)
return 0
