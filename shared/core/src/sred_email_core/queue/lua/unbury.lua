#!lua flags=allow-oom
-- Take dead letters out of the DLQ.
--
-- KEYS[1]  dlq STREAM
-- KEYS[2]  letters HASH    field = dead_letter_id, value = its entry in the DLQ
-- ARGV     dead_letter_id of each
--
-- Returns  how many were there
local removed = 0
for _, dead_letter_id in ipairs(ARGV) do
  local entry = redis.call('HGET', KEYS[2], dead_letter_id)
  if entry then
    redis.pcall('XDEL', KEYS[1], entry) -- an error: that is no entry id
    redis.call('HDEL', KEYS[2], dead_letter_id)
    removed = removed + 1
  end
end
return removed
