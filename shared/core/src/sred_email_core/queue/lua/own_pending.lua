#!lua flags=no-writes,allow-oom
-- What is pending for a consumer: more than it works on, if an answer of take was lost.
--
-- KEYS[1..3]  streams HIGH, NORMAL, LOW
-- ARGV[1]     consumer group   ARGV[2]  consumer   ARGV[3]  most entries of each stream
--
-- Returns  {lane, entry id, lane, entry id, ...}
local found = {}
for lane = 1, 3 do
  local pending = redis.pcall('XPENDING', KEYS[lane], ARGV[1], '-', '+', ARGV[3], ARGV[2])
  if not pending.err then
    for _, entry in ipairs(pending) do
      found[#found + 1] = lane
      found[#found + 1] = entry[1]
    end
  end
end
return found
