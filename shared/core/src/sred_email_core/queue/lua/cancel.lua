#!lua flags=allow-oom
-- Take emails that were cancelled out of Redis, where nobody works on them.
--
-- KEYS[1..3]  streams HIGH, NORMAL, LOW
-- KEYS[4]     retry ZSET      member = email_id, score = due, Unix ms
-- KEYS[5]     places HASH     field = email_id, value = where the email is
-- KEYS[6]     parked HASH     field = email_id, value = hints, a line feed, message
-- ARGV[1]     consumer group
-- ARGV        then email_ids
--
-- Returns  how many were taken out
--
-- An entry that a consumer holds stays: its claim finds that the email has ended, and finishes the entry. So does a send's
-- place: whoever repeats the send finds that it is gone.
local removed = 0
for i = 2, #ARGV do
  local email_id = ARGV[i]
  local place = redis.call('HGET', KEYS[5], email_id) or ''
  local lane, entry = string.match(place, '^stream:([123]):(%d+%-%d+)$')
  if string.match(place, '^retry:[123]$') then
    redis.call('ZREM', KEYS[4], email_id)
    redis.call('HDEL', KEYS[6], email_id)
    redis.call('HDEL', KEYS[5], email_id)
    removed = removed + 1
  elseif lane then
    local stream = KEYS[tonumber(lane)]
    local pending = redis.pcall('XPENDING', stream, ARGV[1], entry, entry, 1) -- an error: no group, so nobody holds it
    if pending.err or not pending[1] then
      redis.pcall('XDEL', stream, entry) -- an error: that is no entry id
      redis.call('HDEL', KEYS[5], email_id)
      removed = removed + 1
    end
  end
end
return removed
