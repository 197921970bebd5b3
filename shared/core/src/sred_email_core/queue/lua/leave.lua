#!lua flags=allow-oom
-- Remove a consumer from the group of each stream, if nothing is pending for it on any.
--
-- KEYS[1..3]  streams HIGH, NORMAL, LOW
-- KEYS[4]     consumers ZSET   member = consumer
-- ARGV[1]     consumer group   ARGV[2]  consumer
--
-- Returns  how many streams still hold pending entries of it
local holding, known = 0, {}
for lane = 1, 3 do
  local pending = redis.pcall('XPENDING', KEYS[lane], ARGV[1], '-', '+', 1, ARGV[2])
  if not pending.err then -- else there is no stream or no group: nothing to leave
    known[#known + 1] = KEYS[lane]
    if #pending > 0 then
      holding = holding + 1
    end
  end
end
if holding == 0 then
  for _, stream in ipairs(known) do
    redis.call('XGROUP', 'DELCONSUMER', stream, ARGV[1], ARGV[2])
  end
  redis.call('ZREM', KEYS[4], ARGV[2])
end
return holding
