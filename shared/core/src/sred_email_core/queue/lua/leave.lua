#!lua flags=allow-oom
-- Remove a consumer from the group of each stream, where nothing is pending for it.
--
-- KEYS[1..3]  streams HIGH, NORMAL, LOW
-- ARGV[1]     consumer group   ARGV[2]  consumer
--
-- Returns  how many streams still hold pending entries of it
local holding = 0
for lane = 1, 3 do
  local pending = redis.pcall('XPENDING', KEYS[lane], ARGV[1], '-', '+', 1, ARGV[2])
  if pending.err then
    -- no stream or no group: nothing to leave
  elseif #pending > 0 then
    holding = holding + 1
  else
    redis.call('XGROUP', 'DELCONSUMER', KEYS[lane], ARGV[1], ARGV[2])
  end
end
return holding
