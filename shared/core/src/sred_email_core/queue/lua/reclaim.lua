#!lua flags=allow-oom
-- Orphan the entries of consumers that died while they had them, so that whoever takes next adopts them.
--
-- KEYS[1]  stream
-- KEYS[2]  consumers ZSET   member = consumer, score = last sign of life, Unix ms
-- KEYS[3]  doorbell LIST
-- ARGV[1]  consumer group   ARGV[2]  consumer that does it   ARGV[3]  name that orphaned entries wait under
-- ARGV[4]  claim idle, ms: an entry that was taken so long ago by a consumer that gave no sign of life for as long
-- ARGV[5]  where to start ('-': from the first)   ARGV[6]  most entries to look at
--
-- Returns  {where to go on ('': the end was reached), how many were orphaned}
--
-- The delivery count of a pending entry is 1 and one more for each owner that died. A consumer that is alive keeps what
-- it has, however long it waits for PostgreSQL or Redis; ten times the claim idle is too long for any reason, and is not
-- held against the entry.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local group, me, orphans, claim_idle, most = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[6])
redis.call('ZADD', KEYS[2], now, me)
local idle = redis.call('XPENDING', KEYS[1], group, 'IDLE', claim_idle, ARGV[5], '+', most)
local moved = 0
for _, pending in ipairs(idle) do
  local id, owner, idle_for, count = pending[1], pending[2], pending[3], pending[4]
  if owner ~= orphans then
    local beat = redis.call('ZSCORE', KEYS[2], owner)
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
