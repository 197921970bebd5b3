#!lua flags=allow-oom
-- Show a dead letter in the DLQ, once, and take its email off its stream, if the caller still owns the entry.
--
-- KEYS[1..3]  streams HIGH, NORMAL, LOW
-- KEYS[4]     places HASH
-- KEYS[5]     dlq STREAM
-- KEYS[6]     letters HASH    field = dead_letter_id, value = its entry in the DLQ
-- ARGV[1]     consumer group      ARGV[2]  consumer
-- ARGV[3]     lane (1..3) and
-- ARGV[4]     entry id of the entry it came from ('0' and '' if from none)
-- ARGV[5]     email_id ('' if the entry was no email)
-- ARGV[6]     dead_letter_id
-- ARGV        then names and values of the DLQ entry's fields
--
-- Returns  1 if the letter is new in the DLQ, else 0
local stream, entry, email_id = KEYS[tonumber(ARGV[3])], ARGV[4], ARGV[5]
if stream and ARGV[3] ~= '0' then
  local pending = redis.pcall('XPENDING', stream, ARGV[1], entry, entry, 1)
  if not pending.err and pending[1] and pending[1][2] == ARGV[2] then
    redis.call('XACK', stream, ARGV[1], entry)
    redis.call('XDEL', stream, entry)
    if email_id ~= '' and redis.call('HGET', KEYS[4], email_id) == 'stream:' .. ARGV[3] .. ':' .. entry then
      redis.call('HDEL', KEYS[4], email_id)
    end
  end
end
if redis.call('HEXISTS', KEYS[6], ARGV[6]) == 1 then
  return 0
end
local fields = {}
for i = 7, #ARGV do
  fields[#fields + 1] = ARGV[i]
end
redis.call('HSET', KEYS[6], ARGV[6], redis.call('XADD', KEYS[5], '*', unpack(fields)))
return 1
