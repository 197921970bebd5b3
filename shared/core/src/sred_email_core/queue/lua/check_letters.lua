#!lua flags=allow-oom
-- Find dead letters that the DLQ does not show, and forget entries of theirs that are gone.
--
-- KEYS[1]  dlq STREAM
-- KEYS[2]  letters HASH    field = dead_letter_id, value = its entry in the DLQ
-- ARGV     dead_letter_ids
--
-- Returns  the numbers (1, 2, ...) of those that it does not show
local missing = {}
for number, dead_letter_id in ipairs(ARGV) do
  local entry = redis.call('HGET', KEYS[2], dead_letter_id)
  local found = entry and redis.pcall('XRANGE', KEYS[1], entry, entry) or {}
  if not found[1] then
    redis.call('HDEL', KEYS[2], dead_letter_id)
    missing[#missing + 1] = number
  end
end
return missing
