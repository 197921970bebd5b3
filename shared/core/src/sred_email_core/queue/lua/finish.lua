#!lua flags=allow-oom
-- Take emails that need nothing more off their streams, each only if the caller still owns its entry; and forget the
-- sends that they were in.
--
-- KEYS[1..3]  streams HIGH, NORMAL, LOW
-- KEYS[4]     places HASH
-- KEYS[5]     retry ZSET
-- ARGV[1]     consumer group      ARGV[2]  consumer
-- ARGV        then for each email: lane (1..3), entry id, email_id, email_id of the first of the send that another owner
--             may have parked meanwhile ('' if of none)
--
-- Returns  how many were the caller's
--
-- Of the send the place is forgotten whoever owns the entry: a place in a send that is over leads nowhere.
local finished = 0
for i = 3, #ARGV, 4 do
  local stream, entry, email_id, first = KEYS[tonumber(ARGV[i])], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local pending = redis.pcall('XPENDING', stream, ARGV[1], entry, entry, 1)
  local place = redis.call('HGET', KEYS[4], email_id)
  if first ~= '' and place == 'send:' .. first then
    redis.call('HDEL', KEYS[4], email_id)
    redis.call('ZREM', KEYS[5], email_id)
  end
  if not pending.err and pending[1] and pending[1][2] == ARGV[2] then
    redis.call('XACK', stream, ARGV[1], entry)
    redis.call('XDEL', stream, entry)
    if place == 'stream:' .. ARGV[i] .. ':' .. entry then
      redis.call('HDEL', KEYS[4], email_id)
    end
    finished = finished + 1
  end
end
return finished
