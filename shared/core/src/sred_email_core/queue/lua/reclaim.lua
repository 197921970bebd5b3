#!lua flags=allow-oom
-- Put entries that their consumer has not finished in time back on their stream, as new ones.
--
-- KEYS[1]  stream
-- KEYS[2]  places HASH
-- KEYS[3]  doorbell LIST
-- ARGV[1]  consumer group   ARGV[2]  consumer that does it
-- ARGV[3]  idle, ms: longer than any attempt, so that whoever had the entry has died or lost its lease
-- ARGV[4]  cursor: where an earlier call stopped ('0-0': from the start)
-- ARGV[5]  most entries to look at   ARGV[6]  lane (1..3)
--
-- Returns  {cursor to go on from ('0-0': the end was reached), how many were put back}
--
-- Going back to the stream, they are sent when there is a slot and a grant for them, like any other. The old entry is
-- deleted before the new one is written, so that it works in a full Redis.
local answer = redis.call('XAUTOCLAIM', KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4], 'COUNT', ARGV[5])
local moved = 0
for _, entry in ipairs(answer[2]) do
  local id, fields = entry[1], entry[2]
  -- An entry with thousands of fields is no email of ours, and more than Lua can pass on: it stays pending, whole.
  if #fields <= 2000 then
    redis.call('XACK', KEYS[1], ARGV[1], id)
    redis.call('XDEL', KEYS[1], id)
    local new = redis.call('XADD', KEYS[1], '*', unpack(fields))
    for i = 1, #fields, 2 do
      if fields[i] == 'email_id' and redis.call('HGET', KEYS[2], fields[i + 1]) == 'stream:' .. ARGV[6] .. ':' .. id then
        redis.call('HSET', KEYS[2], fields[i + 1], 'stream:' .. ARGV[6] .. ':' .. new)
      end
    end
    moved = moved + 1
  end
end
if moved > 0 then
  redis.call('LPUSH', KEYS[3], '1')
  redis.call('LTRIM', KEYS[3], 0, 0)
end
return {answer[1], moved}
