#!lua flags=allow-oom
-- Take emails that need nothing more off their streams, each only if the caller still owns its entry.
--
-- KEYS[1..3]  streams HIGH, NORMAL, LOW
-- KEYS[4]     places HASH
-- ARGV[1]     consumer group      ARGV[2]  consumer
-- ARGV        then for each email: lane (1..3), entry id, email_id
--
-- Returns  how many were the caller's
local finished = 0
for i = 3, #ARGV, 3 do
  local stream, entry, email_id = KEYS[tonumber(ARGV[i])], ARGV[i + 1], ARGV[i + 2]
  local pending = redis.pcall('XPENDING', stream, ARGV[1], entry, entry, 1)
  if not pending.err and pending[1] and pending[1][2] == ARGV[2] then
    redis.call('XACK', stream, ARGV[1], entry)
    redis.call('XDEL', stream, entry)
    if redis.call('HGET', KEYS[4], email_id) == 'stream:' .. ARGV[i] .. ':' .. entry then
      redis.call('HDEL', KEYS[4], email_id)
    end
    finished = finished + 1
  end
end
return finished
