-- Show dead letters in the DLQ, each only if it is not there yet.
--
-- KEYS[1]  dlq STREAM
-- KEYS[2]  letters HASH    field = dead_letter_id, value = its entry in the DLQ
-- ARGV     for each letter: dead_letter_id, how many names and values follow, and these
--
-- Returns  how many are new in the DLQ
local shown, i = 0, 1
while i <= #ARGV do
  local dead_letter_id, count = ARGV[i], tonumber(ARGV[i + 1])
  if redis.call('HEXISTS', KEYS[2], dead_letter_id) == 0 then
    local entry = redis.call('XADD', KEYS[1], '*', unpack(ARGV, i + 2, i + 1 + count))
    redis.call('HSET', KEYS[2], dead_letter_id, entry)
    shown = shown + 1
  end
  i = i + 2 + count
end
return shown
