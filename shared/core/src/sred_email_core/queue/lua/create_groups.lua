#!lua flags=allow-oom
-- Create the streams and their group where they are missing: at 0, so that nothing on them is skipped.
--
-- KEYS     the streams
-- ARGV[1]  consumer group
--
-- Returns  how many groups were missing
--
-- A script, so that it works in a full Redis: without the group nothing could be taken, and no memory set free.
local created = 0
for _, stream in ipairs(KEYS) do
  local answer = redis.pcall('XGROUP', 'CREATE', stream, ARGV[1], '0', 'MKSTREAM')
  if not answer.err then
    created = created + 1
  elseif not string.find(answer.err, 'BUSYGROUP') then
    return answer
  end
end
return created
