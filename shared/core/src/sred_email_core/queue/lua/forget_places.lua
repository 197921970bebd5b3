#!lua flags=allow-oom
-- Forget where emails are that have ended, or that the log does not know, unless they moved meanwhile.
--
-- KEYS[1..3]  streams HIGH, NORMAL, LOW
-- KEYS[4]     retry ZSET      member = email_id, score = due, Unix ms
-- KEYS[5]     places HASH     field = email_id, value = where the email is
-- KEYS[6]     parked HASH     field = email_id, value = hints, a line feed, message
-- ARGV        for each email: email_id, its place as it was seen
--
-- Returns  how many were forgotten
--
-- An entry that is still on its stream stays, with its place: whoever takes it finds that its email has ended, and drops
-- both.
local forgotten = 0
for i = 1, #ARGV, 2 do
  local email_id, place = ARGV[i], ARGV[i + 1]
  if redis.call('HGET', KEYS[5], email_id) == place then
    local lane, entry = string.match(place, '^stream:([123]):(%d+%-%d+)$')
    local found = lane and redis.pcall('XRANGE', KEYS[tonumber(lane)], entry, entry) or {}
    if not found[1] then
      redis.call('HDEL', KEYS[5], email_id)
      redis.call('HDEL', KEYS[6], email_id)
      redis.call('ZREM', KEYS[4], email_id)
      forgotten = forgotten + 1
    end
  end
end
return forgotten
