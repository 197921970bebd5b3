#!lua flags=allow-oom
-- Give entries back whose emails were not begun, so that whoever takes next adopts them; each only if the caller still
-- owns it.
--
-- KEYS[1..3]  streams HIGH, NORMAL, LOW
-- KEYS[4]     doorbell LIST
-- ARGV[1]     consumer group      ARGV[2]  consumer      ARGV[3]  name that orphaned entries wait under
-- ARGV[4]     1 if it counts as a death of an owner, else 0
-- ARGV        then for each entry: lane (1..3), entry id
--
-- Returns  how many were given back
local group, consumer, orphans, deaths = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local given = 0
for i = 5, #ARGV, 2 do
  local stream, id = KEYS[tonumber(ARGV[i])], ARGV[i + 1]
  local pending = redis.pcall('XPENDING', stream, group, id, id, 1)
  if not pending.err and pending[1] and pending[1][2] == consumer then
    redis.call('XCLAIM', stream, group, orphans, 0, id, 'RETRYCOUNT', pending[1][4] + deaths, 'JUSTID')
    given = given + 1
  end
end
if given > 0 then
  redis.call('LPUSH', KEYS[4], '1')
  redis.call('LTRIM', KEYS[4], 0, 0)
end
return given
