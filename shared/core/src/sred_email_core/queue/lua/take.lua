#!lua flags=allow-oom
-- Take what may be sent now, and the grants to send it, in one step: repeats that are due, then new work, highest lane
-- first.
--
-- KEYS[1..3]  streams HIGH, NORMAL, LOW
-- KEYS[4]     retry ZSET      member = email_id, score = due, Unix ms
-- KEYS[5]     places HASH     field = email_id, value = where the email is
-- KEYS[6]     grants LIST     newest first: when the last requests were granted, Unix ms
-- KEYS[7]     dispatch HASH   state, reason, until (Unix ms): delivery is held for every replica until then
-- KEYS[8]     doorbell LIST
-- ARGV[1]     consumer group      ARGV[2]  consumer
-- ARGV[3]     free slots: the most sends to return
-- ARGV[4]     grants in a window (0: no limit)   ARGV[5]  the window, ms
-- ARGV[6]     claim idle, ms: a repeat that nobody settles is due again after it
--
-- Returns  {1 if nothing may be sent before the wait is over, ms until it is worth asking again (0: nothing is known to
--           come), {email_id of each repeat}, {{lane, entry id, fields}, ...}}
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local group, consumer = ARGV[1], ARGV[2]
local slots, limit, window, claim_idle = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])

local held_until = tonumber(redis.call('HGET', KEYS[7], 'until') or 0)
if held_until > now then
  return {1, held_until - now, {}, {}}
end

local wait = 0
local sends = slots
if limit > 0 then
  local used = 0
  for _, stamp in ipairs(redis.call('LRANGE', KEYS[6], 0, limit - 1)) do
    local left = tonumber(stamp) + window - now
    if left > 0 then
      used = used + 1
      wait = left -- the list is newest first: the last one counted is the first to leave the window
    end
  end
  sends = math.min(slots, limit - used)
  if sends <= 0 then
    return {1, wait, {}, {}}
  end
end

local repeats = {}
for _, email_id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', now, 'LIMIT', 0, 100)) do
  if #repeats == sends then
    break
  end
  local place = redis.call('HGET', KEYS[5], email_id)
  if place and string.sub(place, 1, 5) == 'send:' then
    redis.call('ZADD', KEYS[4], now + claim_idle, email_id)
    repeats[#repeats + 1] = email_id
  end
end

local entries = {}
for lane = 1, 3 do
  local most = sends - #repeats - #entries
  if most > 0 then
    local read = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', most, 'STREAMS', KEYS[lane], '>')
    if read then
      for _, entry in ipairs(read[1][2]) do
        entries[#entries + 1] = {lane, entry[1], entry[2]}
      end
    end
  end
end

local taken = #repeats + #entries
if limit > 0 then
  for _ = 1, taken do
    redis.call('LPUSH', KEYS[6], now)
  end
  if taken > 0 then
    redis.call('LTRIM', KEYS[6], 0, limit - 1)
  end
end
if taken == slots then
  redis.call('LPUSH', KEYS[8], '1') -- there may be more than this consumer has slots for
  redis.call('LTRIM', KEYS[8], 0, 0)
end
if taken < sends then
  wait = 0
  local next_due = redis.call('ZRANGEBYSCORE', KEYS[4], '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  if next_due[2] then
    wait = math.max(1, tonumber(next_due[2]) - now)
  end
end
return {0, wait, repeats, entries}
