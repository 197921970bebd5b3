#!lua flags=allow-oom
-- Orphan the entries of consumers that died while they had them, so that whoever takes next adopts them.
--
-- KEYS[1]  stream
-- KEYS[2]  consumers ZSET   member = consumer, score = last sign of life, Unix ms
-- KEYS[3]  doorbell LIST
-- KEYS[4]  dispatch HASH    served_since (Unix ms): signs of life that are older say nothing
-- ARGV[1]  consumer group   ARGV[2]  consumer that does it   ARGV[3]  name that orphaned entries wait under
-- ARGV[4]  claim idle, ms: an entry that was taken so long ago by a consumer that gave no sign of life for as long
-- ARGV[5]  where to start ('-': from the first)   ARGV[6]  most entries to look at
--
-- Returns  {where to go on ('': the end was reached), how many were orphaned}
--
-- The delivery count of a pending entry is 1 and one more for each owner that died. A consumer that is alive keeps what
-- it has, however long it waits for PostgreSQL or Redis; ten times the claim idle is too long for any reason, and is not
-- held against the entry. After a time in which nobody was heard, because Redis was away or its clock was set, consumers
-- get a moment to be heard again: who is not has died.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local group, me, orphans, claim_idle, most = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[6])
local newest = redis.call('ZREVRANGE', KEYS[2], 0, 0, 'WITHSCORES')
if newest[2] and now - tonumber(newest[2]) > math.max(3000, claim_idle / 4) then
  redis.call('HSET', KEYS[4], 'served_since', now)
end
redis.call('ZADD', KEYS[2], now, me)
local served_for = now - (tonumber(redis.call('HGET', KEYS[4], 'served_since')) or 0)
if served_for >= 0 and served_for < math.min(10000, claim_idle / 2) then
  return {'', 0}
end
local idle = redis.call('XPENDING', KEYS[1], group, 'IDLE', claim_idle, ARGV[5], '+', most)
local moved = 0
for _, pending in ipairs(idle) do
  local id, owner, idle_for, count = pending[1], pending[2], pending[3], pending[4]
  if owner ~= orphans then
    local beat = redis.call('ZSCORE', KEYS[2], owner)
    if beat and tonumber(beat) > now + claim_idle then -- the clock was set back
      redis.call('ZADD', KEYS[2], now, owner)
    end
    local dead = not beat or now - tonumber(beat) >= claim_idle
    if dead or idle_for >= 10 * claim_idle then
      redis.call('XCLAIM', KEYS[1], group, orphans, 0, id, 'RETRYCOUNT', count + (dead and 1 or 0), 'JUSTID')
      moved = moved + 1
    end
  end
end
if moved > 0 then
  redis.call('LPUSH', KEYS[3], '1')
  redis.call('LTRIM', KEYS[3], 0, 0)
end
return {#idle == most and '(' .. idle[#idle][1] or '', moved}
