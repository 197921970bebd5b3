#!lua flags=allow-oom
-- Take what may be sent now, and the grants to send it, in one step: repeats that are due, then what other consumers
-- left, then new work, highest lane first.
--
-- KEYS[1..3]  streams HIGH, NORMAL, LOW
-- KEYS[4]     retry ZSET      member = email_id, score = due, Unix ms
-- KEYS[5]     places HASH     field = email_id, value = where the email is
-- KEYS[6]     grants LIST     newest first: when the last requests were granted, Unix ms
-- KEYS[7]     dispatch HASH   state, reason, set, until (Unix ms): delivery is held for every replica until then;
--                             served_since (Unix ms): signs of life that are older say nothing
-- KEYS[8]     doorbell LIST
-- KEYS[9]     consumers ZSET  member = consumer, score = last sign of life, Unix ms
-- ARGV[1]     consumer group      ARGV[2]  consumer      ARGV[3]  name that orphaned entries wait under
-- ARGV[4]     free slots: the most requests to return
-- ARGV[5]     grants in a window (0: no limit)   ARGV[6]  the window, ms
-- ARGV[7]     claim idle, ms: a repeat that nobody settles is due again after it
-- ARGV[8]     most emails in a request   ARGV[9]  most bytes of content in a request of several
-- ARGV[10]    1 if the consumer may take an entry whose owners died twice or more
--
-- Returns  {1 if nothing may be sent before the wait is over, ms until it is worth asking again (0: nothing is known to
--           come), {email_id of each repeat}, {for each request its entries {lane, entry id, fields, deaths}},
--           {consumers that are alive, told with repeats}}
--
-- Where no more emails wait than there are requests to make, each goes alone. Else they share one request, up to its
-- limits, and the caller comes again at once. Entries are looked at before they are read, so that nothing is taken that
-- does not fit. An entry whose owner died once shares its request with few others of its kind, later with none, and one
-- at a time.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local group, consumer, orphans = ARGV[1], ARGV[2], ARGV[3]
local slots, limit, window, claim_idle = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local batch_size, batch_bytes, suspect_allowed = tonumber(ARGV[8]), tonumber(ARGV[9]), ARGV[10] == '1'
local EXPIRES_SOON, SHAKEN_SIZE, ORPHANS_SEEN = 15 * 60 * 1000, math.min(10, batch_size), 1000
local LONGEST_WAIT, LONGEST_HOLD = 60 * 60 * 1000, 32 * 24 * 60 * 60 * 1000 -- a longer hold is none that we made
local UUID = '^' .. string.rep('%x', 8) .. string.rep('%-' .. string.rep('%x', 4), 3) .. '%-' .. string.rep('%x', 12) .. '$'

for lane = 1, 3 do
  redis.call('XPENDING', KEYS[lane], group, '-', '+', 1) -- a group that is missing fails here, before anything is done
end
local newest = redis.call('ZREVRANGE', KEYS[9], 0, 0, 'WITHSCORES')
if newest[2] and now - tonumber(newest[2]) > math.max(3000, claim_idle / 4) then
  redis.call('HSET', KEYS[7], 'served_since', now) -- nobody was heard: Redis was away, or its clock was set
end
redis.call('ZADD', KEYS[9], now, consumer)

local held = redis.call('HMGET', KEYS[7], 'until', 'set')
local held_until, held_since = tonumber(held[1]) or 0, tonumber(held[2]) or 0
if held_since > now then -- the clock was set back: the hold lasts as long as it was meant to
  held_until = held_until - (held_since - now)
  redis.call('HSET', KEYS[7], 'until', held_until, 'set', now)
end
if held_until > now and held_until < now + LONGEST_HOLD then
  return {1, math.min(held_until - now, LONGEST_WAIT), {}, {}, {}}
end

local wait, left = 0, slots
if limit > 0 then
  local used = 0
  local newest_grant = redis.call('LINDEX', KEYS[6], 0)
  if newest_grant and (tonumber(newest_grant) or math.huge) > now then -- the clock was set back: these grants say nothing any more
    redis.call('DEL', KEYS[6])
  end
  for _, stamp in ipairs(redis.call('LRANGE', KEYS[6], 0, limit - 1)) do
    local stamp_left = (tonumber(stamp) or 0) + window - now
    if stamp_left > 0 then
      used = used + 1
      wait = stamp_left -- the list is newest first: the last one counted is the first to leave the window
    end
  end
  left = math.min(slots, limit - used)
  if left <= 0 then
    return {1, wait, {}, {}, {}}
  end
end
local granted = left

local repeats, alive = {}, {}
for _, email_id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', now, 'LIMIT', 0, 100)) do
  if left == 0 then
    break
  end
  local place = redis.call('HGET', KEYS[5], email_id)
  if place and string.sub(place, 1, 5) == 'send:' and not string.match(email_id, UUID) then
    redis.call('ZREM', KEYS[4], email_id) -- no email of ours
    redis.call('HDEL', KEYS[5], email_id)
  elseif place and string.sub(place, 1, 5) == 'send:' then
    redis.call('ZADD', KEYS[4], now + claim_idle, email_id)
    repeats[#repeats + 1] = email_id
    left = left - 1
  end
end
if #repeats > 0 then
  alive = redis.call('ZRANGEBYSCORE', KEYS[9], now - claim_idle, '+inf')
end

-- What waits, in the order in which it goes: lane, entry id, fields, deaths (-1: new).
local waiting, most, suspect = {}, batch_size + left, nil
for lane = 1, 3 do
  if left > 0 and #waiting < most then
    for _, pending in ipairs(redis.call('XPENDING', KEYS[lane], group, '-', '+', ORPHANS_SEEN, orphans)) do
      local waits = pending[4] > 2 and (suspect or not suspect_allowed) -- for the suspect before it to be settled
      local found = not waits and #waiting < most and redis.call('XRANGE', KEYS[lane], pending[1], pending[1])[1]
      if waits or found == false then
        -- another time
      elseif found then
        suspect = suspect or pending[4] > 2
        waiting[#waiting + 1] = {lane, pending[1], found[2], pending[4] - 1}
      else
        redis.call('XACK', KEYS[lane], group, pending[1]) -- it was deleted while nobody had it
      end
    end
    if #waiting < most then
      local last
      for _, info in ipairs(redis.call('XINFO', 'GROUPS', KEYS[lane])) do
        local fields = {}
        for i = 1, #info, 2 do
          fields[info[i]] = info[i + 1]
        end
        if fields['name'] == group then
          last = fields['last-delivered-id']
        end
      end
      local new = redis.pcall('XRANGE', KEYS[lane], '(' .. last, '+', 'COUNT', most - #waiting) -- an error: no id is left
      for _, entry in ipairs(new) do
        waiting[#waiting + 1] = {lane, entry[1], entry[2], -1}
      end
    end
  end
end

local requests, shared, shared_bytes, shaken, shaken_bytes = {}, nil, 0, nil, 0
local each_alone = #waiting <= left or batch_size == 1
local read, lane_full = {0, 0, 0}, {false, false, false}
local function request_of(entry)
  if #requests == left then
    return nil
  end
  requests[#requests + 1] = {entry}
  return requests[#requests]
end
local function fits(entry)
  local size, alone, expires
  for i = 1, #entry[3], 2 do
    if entry[3][i] == 'hints' then
      size, alone, expires = string.match(entry[3][i + 1], '^(%d+) ([01]) (%d+)$')
    end
  end
  if entry[4] >= 2 then
    return request_of(entry)
  end
  if each_alone or not size or alone == '1' or tonumber(size) > batch_bytes
      or (tonumber(expires) > 0 and tonumber(expires) < now + EXPIRES_SOON) then
    return request_of(entry)
  end
  if entry[4] == 1 then
    if shaken and #shaken < SHAKEN_SIZE and shaken_bytes + tonumber(size) <= batch_bytes then
      shaken[#shaken + 1] = entry
    else
      shaken, shaken_bytes = request_of(entry), 0
    end
    shaken_bytes = shaken_bytes + tonumber(size)
    return shaken
  end
  if shared then
    if #shared == batch_size or shared_bytes + tonumber(size) > batch_bytes then
      return nil
    end
    shared[#shared + 1] = entry
  else
    shared = request_of(entry)
  end
  shared_bytes = shared_bytes + tonumber(size)
  return shared
end
for _, entry in ipairs(waiting) do
  local lane = entry[1]
  if entry[4] >= 0 then
    if fits(entry) then
      redis.call('XCLAIM', KEYS[lane], group, consumer, 0, entry[2], 'RETRYCOUNT', entry[4] + 1, 'JUSTID')
    end
  elseif not lane_full[lane] then -- new entries are read in their order: behind one that does not fit, none does
    if fits(entry) then
      read[lane] = read[lane] + 1
    else
      lane_full[lane] = true
    end
  end
end
for lane = 1, 3 do
  if read[lane] > 0 then
    redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', read[lane], 'STREAMS', KEYS[lane], '>')
  end
end
for _, request in ipairs(requests) do
  for _, entry in ipairs(request) do
    entry[4] = math.max(0, entry[4])
  end
end

local taken = #repeats + #requests
if limit > 0 and taken > 0 then
  for _ = 1, taken do
    redis.call('LPUSH', KEYS[6], now)
  end
  redis.call('LTRIM', KEYS[6], 0, limit - 1)
end
if taken == slots or not each_alone then
  redis.call('LPUSH', KEYS[8], '1') -- there may be more than this consumer has slots for
  redis.call('LTRIM', KEYS[8], 0, 0)
end
if taken < granted then
  wait = 0
  local next_due = redis.call('ZRANGEBYSCORE', KEYS[4], '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  if next_due[2] then
    wait = math.min(math.max(1, tonumber(next_due[2]) - now), LONGEST_WAIT)
  end
end
return {0, wait, repeats, requests, alive}
