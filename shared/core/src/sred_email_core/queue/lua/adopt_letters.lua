#!lua flags=allow-oom
-- Go on through the DLQ, so that it and its index agree: entries that the index has forgotten are put into it; a second
-- entry of a letter, and what is no letter, is deleted.
--
-- KEYS[1]  dlq STREAM
-- KEYS[2]  letters HASH    field = dead_letter_id, value = its entry in the DLQ
-- ARGV[1]  the last entry that an earlier call saw ('': from the start)   ARGV[2]  most entries to look at
--
-- Returns  {the last entry seen ('': the end was reached), how many were put into the index, how many were deleted}
local from = ARGV[1] == '' and '-' or '(' .. ARGV[1]
local read = redis.call('XRANGE', KEYS[1], from, '+', 'COUNT', ARGV[2])
local adopted, deleted = 0, 0
for _, item in ipairs(read) do
  local entry, fields, dead_letter_id = item[1], item[2], nil
  for i = 1, #fields, 2 do
    if fields[i] == 'dead_letter_id' then
      dead_letter_id = fields[i + 1]
    end
  end
  local indexed = dead_letter_id and redis.call('HGET', KEYS[2], dead_letter_id)
  if indexed ~= entry then
    local other = indexed and redis.pcall('XRANGE', KEYS[1], indexed, indexed) or {}
    if dead_letter_id and not other[1] then
      redis.call('HSET', KEYS[2], dead_letter_id, entry)
      adopted = adopted + 1
    else
      redis.call('XDEL', KEYS[1], entry)
      deleted = deleted + 1
    end
  end
end
local last = read[tonumber(ARGV[2])]
return {last and last[1] or '', adopted, deleted}
