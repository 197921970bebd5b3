#!lua flags=no-writes,allow-oom
-- Consumers that gave no sign of life for long: their names may leave the group once nothing is pending for them.
--
-- KEYS[1..3]  streams HIGH, NORMAL, LOW
-- KEYS[4]     consumers ZSET   member = consumer, score = last sign of life, Unix ms
-- ARGV[1]     consumer group   ARGV[2]  name that orphaned entries wait under   ARGV[3]  how long, ms
--
-- Returns  their names, some maybe more than once
local time = redis.call('TIME')
local before = time[1] * 1000 + math.floor(time[2] / 1000) - tonumber(ARGV[3])
local dead = redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', before)
for lane = 1, 3 do
  local members = redis.pcall('XINFO', 'CONSUMERS', KEYS[lane], ARGV[1])
  if not members.err then
    for _, member in ipairs(members) do
      local info = {}
      for i = 1, #member, 2 do
        info[member[i]] = member[i + 1]
      end
      if info['name'] ~= ARGV[2] and info['pending'] == 0 and info['idle'] > tonumber(ARGV[3])
          and not redis.call('ZSCORE', KEYS[4], info['name']) then
        dead[#dead + 1] = info['name']
      end
    end
  end
end
return dead
