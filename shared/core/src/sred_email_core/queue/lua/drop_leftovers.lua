#!lua flags=allow-oom
-- Drop what the retry set and the parked messages hold of emails whose place is elsewhere: nothing would ever use it.
--
-- KEYS[1]  retry ZSET      member = email_id, score = due, Unix ms
-- KEYS[2]  places HASH     field = email_id, value = where the email is
-- KEYS[3]  parked HASH     field = email_id, value = hints, a line feed, message
-- ARGV[1]  'retry' or 'parked': which of the two to look through
-- ARGV[2]  cursor: where an earlier call stopped ('0': from the start)   ARGV[3]  about how many to look at
--
-- Returns  {cursor to go on from ('0': the end was reached), how many were dropped}
local in_retry = ARGV[1] == 'retry'
local answer = redis.call(in_retry and 'ZSCAN' or 'HSCAN', KEYS[in_retry and 1 or 3], ARGV[2], 'COUNT', ARGV[3])
local dropped = 0
for i = 1, #answer[2], 2 do
  local email_id = answer[2][i]
  local place = redis.call('HGET', KEYS[2], email_id) or ''
  local waits_alone = string.match(place, '^retry:[123]$')
  if in_retry and not waits_alone and place ~= 'send:' .. email_id then
    dropped = dropped + redis.call('ZREM', KEYS[1], email_id)
  elseif not in_retry and not waits_alone then
    dropped = dropped + redis.call('HDEL', KEYS[3], email_id)
  end
end
return {answer[1], dropped}
