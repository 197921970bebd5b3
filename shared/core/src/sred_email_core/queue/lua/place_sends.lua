#!lua flags=allow-oom
-- Give open sends that nobody would find the place back from which they are repeated; what is there stays as it is.
--
-- KEYS[1]  retry ZSET      member = email_id of the send's first email, score = due, Unix ms
-- KEYS[2]  places HASH     field = email_id, value = where the email is
-- KEYS[3]  parked HASH     field = email_id, value = hints, a line feed, message
-- KEYS[4]  doorbell LIST   wakes one idle consumer, which then knows when the next send is due
-- ARGV     for each send: email_id of its first, ms until it is due, how many of its emails have no place, and these
--
-- Returns  how many emails got a place
--
-- The first email always gets its place in the send, also where it is on its stream or parked: it stands for the others,
-- and its entry is dropped when it is taken.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local placed, i = 0, 1
while i <= #ARGV do
  local first, due, count = ARGV[i], now + tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  for member = i + 3, i + 2 + count do
    placed = placed + redis.call('HSETNX', KEYS[2], ARGV[member], 'send:' .. first)
  end
  redis.call('HSET', KEYS[2], first, 'send:' .. first)
  redis.call('HDEL', KEYS[3], first)
  redis.call('ZADD', KEYS[1], 'NX', due, first)
  i = i + 3 + count
end
redis.call('LPUSH', KEYS[4], '1')
redis.call('LTRIM', KEYS[4], 0, 0)
return placed
