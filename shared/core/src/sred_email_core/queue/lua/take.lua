#!lua flags=allow-oom
-- Take what may be sent now, and the grants to send it, in one step: repeats that are due, then what other consumers
-- left, then new work, highest lane first.
--
-- KEYS[1..3]  streams HIGH, NORMAL, LOW
-- KEYS[4]     retry ZSET      member = email_id, score = due, Unix ms
-- KEYS[5]     places HASH     field = email_id, value = where the email is
-- KEYS[6]     parked HASH     field = email_id, value = hints, a line feed, message
-- KEYS[7]     grants ZSET     member = number of a grant, score = when its request was granted or went out, Unix ms
-- KEYS[8]     dispatch HASH   what holds or slows delivery for every replica; see keys.py
-- KEYS[9]     doorbell LIST
-- KEYS[10]    consumers ZSET  member = consumer, score = last sign of life, Unix ms
-- KEYS[11]    pauses HASH     field = lane (1..3), value = why; a copy of what PostgreSQL says, with its version
-- KEYS[12]    domains HASH    field = sender domain that is refused, value = when to try it, Unix ms, a space, why
-- KEYS[13]    failures SET    sends that failed one after the other, over all replicas
-- KEYS[14]    refusals HASH   what was refused one after the other, over all replicas
-- ARGV[1]     consumer group      ARGV[2]  consumer      ARGV[3]  name that orphaned entries wait under
-- ARGV[4]     free slots: the most requests to return
-- ARGV[5]     requests per second (0: no limit); the provider's own limit, where it is lower, wins
-- ARGV[6]     claim idle, ms: a repeat that nobody settles is due again after it
-- ARGV[7]     most emails in a request   ARGV[8]  most bytes of content in a request of several
-- ARGV[9]     1 if the consumer may take an entry whose owners died twice or more
-- ARGV[10]    share of the places that LOW keeps while higher lanes have work, 0 to 1
-- ARGV[11]    ms between probes   ARGV[12]  ms after which a probe that nobody reported is given up
-- ARGV[13]    1 if a request of this consumer was accepted since it asked last
--
-- Returns  {0: go on; 1: nothing may be sent before the wait is over; 2: the copy of the pauses is missing,
--           ms until it is worth asking again (0: nothing is known to come), {email_id of each repeat},
--           {for each request its entries {lane, entry id, fields, deaths}}, {consumers that are alive, told with
--           repeats}, number of the state if this work probes it (0: it does not), state, reason, name of the refusals
--           that stopped delivery, the provider's limit ('': not known yet), {sender domains that are refused},
--           {for each repeat, then each request, where there is a limit: {number of its grant, ms until it may go out}}}
--
-- Where no more emails wait than there are requests to make, each goes alone. Else they share one request, up to its
-- limits, and the caller comes again at once. Entries are looked at before they are read, so that nothing is taken that
-- does not fit. An entry whose owner died once shares its request with few others of its kind, later with none, and one
-- at a time. While delivery is stopped, one email at a time goes out to see whether it can go on.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local group, consumer, orphans = ARGV[1], ARGV[2], ARGV[3]
local slots, rate, claim_idle = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local batch_size, batch_bytes, suspect_allowed = tonumber(ARGV[7]), tonumber(ARGV[8]), ARGV[9] == '1'
local low_share, probe_interval, probe_patience = tonumber(ARGV[10]), tonumber(ARGV[11]), tonumber(ARGV[12])
local HIGH, LOW = 1, 3
local EXPIRES_SOON, SHAKEN_SIZE, ORPHANS_SEEN = 15 * 60 * 1000, math.min(10, batch_size), 1000
local LONGEST_WAIT, LONGEST_HOLD = 60 * 60 * 1000, 32 * 24 * 60 * 60 * 1000 -- a longer hold is none that we made
local SLACK = 20 -- requests do not arrive as evenly as they go out
local AHEAD = 100 -- a grant may be for a moment to come: until then the caller claims and makes the body
local SCOUT_PATIENCE = 2000
local LESS, LEAST, REGAINED = 0.7, 0.1, 60 * 1000 -- after a 429: this part of the limit, and ms until all of it is used again
local UUID = '^' .. string.rep('%x', 8) .. string.rep('%-' .. string.rep('%x', 4), 3) .. '%-' .. string.rep('%x', 12) .. '$'
local STATES = {PROVIDER_DOWN = true, MISCONFIGURED = true, QUOTA_EXHAUSTED = true}

for lane = 1, 3 do
  redis.call('XPENDING', KEYS[lane], group, '-', '+', 1) -- a group that is missing fails here, before anything is done
end
local newest = redis.call('ZREVRANGE', KEYS[10], 0, 0, 'WITHSCORES')
if newest[2] and now - tonumber(newest[2]) > math.max(3000, claim_idle / 4) then
  redis.call('HSET', KEYS[8], 'served_since', now) -- nobody was heard: Redis was away, or its clock was set
end
redis.call('ZADD', KEYS[10], now, consumer)
if ARGV[13] == '1' then
  redis.call('DEL', KEYS[13], KEYS[14])
end

local dispatch = {}
local told = redis.call('HGETALL', KEYS[8])
for i = 1, #told, 2 do
  dispatch[told[i]] = told[i + 1]
end
local function number_of(field)
  local number = tonumber(dispatch[field]) or 0
  return number == number and number or 0 -- not a number is no number
end
local state = STATES[dispatch['state']] and dispatch['state'] or 'RUNNING'
local reason = state == 'RUNNING' and '' or dispatch['reason'] or ''
local limit_known = tonumber(dispatch['provider_limit']) and dispatch['provider_limit'] or ''
local domains = redis.call('HKEYS', KEYS[12])
local repeats, requests, alive, probes, grants = {}, {}, {}, 0, {}
local function answer(outcome, wait)
  return {outcome, math.floor(wait), repeats, requests, alive, probes, state, reason, dispatch['refused_name'] or '',
    limit_known, domains, grants}
end

if redis.call('EXISTS', KEYS[11]) == 0 then
  return answer(2, 0)
end
local paused, all_paused = {}, true
for lane = 1, 3 do
  local why = redis.call('HGET', KEYS[11], lane)
  paused[lane] = why ~= false
  all_paused = all_paused and paused[lane]
end
if all_paused then
  state, reason = 'PAUSED', redis.call('HGET', KEYS[11], HIGH)
  return answer(1, LONGEST_WAIT)
end

local held_until, held_since = number_of('until'), number_of('set')
if held_since > now then -- the clock was set back: the hold lasts as long as it was meant to
  held_until = held_until - (held_since - now)
  redis.call('HSET', KEYS[8], 'until', held_until, 'set', now)
end
if held_until > now and held_until < now + LONGEST_HOLD then
  return answer(1, math.min(held_until - now, LONGEST_WAIT))
end

local probing = state ~= 'RUNNING'
if probing then
  local probe_at = number_of('probe_at')
  if number_of('since') > now or probe_at > now + LONGEST_HOLD then -- the clock was set back
    probe_at = now
    redis.call('HSET', KEYS[8], 'since', now)
  end
  if probe_at > now then
    return answer(1, math.min(probe_at - now, LONGEST_WAIT))
  end
  if not string.match(dispatch['number'] or '', '^[1-9]%d?%d?%d?%d?%d?%d?%d?%d?%d?$') then
    dispatch['number'] = '1' -- by which a probe is known; what stands there is none that we made
    redis.call('HSET', KEYS[8], 'number', '1')
  end
  slots = 1
end

-- The provider's limit is the account's. A 429 says that others use it too: less is asked for, and more again bit by bit.
local function part_of_limit()
  local exceeded, since = number_of('exceeded'), number_of('part_since')
  if exceeded <= 0 or exceeded > now then -- the clock was set back, or it is nothing that we wrote
    return 1
  end
  local known = since > 0 and since <= now
  local part = known and math.max(LEAST, number_of('part')) + (now - since) / REGAINED or 1
  if exceeded > since or not known then
    part = math.max(LEAST, math.min(1, part) * LESS)
    redis.call('HSET', KEYS[8], 'part', string.format('%.4f', part), 'part_since', now)
  elseif part >= 1 then
    redis.call('HDEL', KEYS[8], 'exceeded', 'part', 'part_since')
    part = 1
  end
  return math.min(1, part)
end

local wait, left, limit, ready_in = 0, slots, 0, {}
if rate > 0 then
  if number_of('provider_limit') > 0 then
    rate = math.min(rate, number_of('provider_limit'))
  end
  rate = rate * part_of_limit()
  limit = math.max(1, math.floor(rate))
  local window = math.floor(limit / rate * 1000) + SLACK
  redis.call('ZREMRANGEBYSCORE', KEYS[7], '(' .. (now + window), '+inf') -- the clock was set back: these say nothing any more
  redis.call('ZREMRANGEBYSCORE', KEYS[7], '-inf', now - 2 * window)
  left = 0
  local lately = redis.call('ZCARD', KEYS[7])
  local stamps = redis.call('ZREVRANGE', KEYS[7], 0, limit - 1, 'WITHSCORES')
  local last = tonumber(stamps[2]) or 0
  for n = 1, math.min(slots, limit) do -- one grant goes out when the one so many before it has left the window
    local before = tonumber(stamps[2 * (limit - n + 1)]) or 0
    local ready = math.max(0, math.ceil(before + window - now))
    if lately + n - 1 >= 1.5 * limit then -- under a lasting load they go out evenly, so that a slot is never far away
      ready = math.max(ready, math.ceil(last + 0.9 * window / limit - now))
    end
    last = now + ready
    if ready > AHEAD then
      wait = ready - AHEAD
      break
    end
    ready_in[n] = ready
    left = n
  end
  if left <= 0 then
    return answer(1, math.max(1, wait))
  end
  if limit_known == '' then -- one request goes ahead, to learn what the provider allows
    local scouted = number_of('scouted')
    if scouted <= now and scouted + SCOUT_PATIENCE > now then
      return answer(0, scouted + SCOUT_PATIENCE - now)
    end
    left = 1
  end
end
local granted = left

-- What waits, in the order in which it goes: lane, entry id, fields, deaths (-1: new).
local waiting, most, suspect, parked = {}, batch_size + left, nil, 0
local function hints_of(entry)
  for i = 1, #entry[3], 2 do
    if entry[3][i] == 'hints' then
      local size, alone, expires, rest = string.match(entry[3][i + 1], '^(%d+) ([01]) (%d+)(.*)$')
      local domain = rest and string.match(rest, '^ ([%w%.%-]+)$')
      if size and (rest == '' or domain) then
        return tonumber(size), alone == '1', tonumber(expires), domain
      end
    end
  end
end
local function last_delivered(lane)
  for _, info in ipairs(redis.call('XINFO', 'GROUPS', KEYS[lane])) do
    local fields = {}
    for i = 1, #info, 2 do
      fields[info[i]] = info[i + 1]
    end
    if fields['name'] == group then
      return fields['last-delivered-id']
    end
  end
end
local function new_entries(lane, count)
  local new = redis.pcall('XRANGE', KEYS[lane], '(' .. last_delivered(lane), '+', 'COUNT', count)
  return new.err and {} or new -- an error: no id is left
end
local function look_at(lane, seen)
  if paused[lane] then
    return
  end
  for _, pending in ipairs(redis.call('XPENDING', KEYS[lane], group, '-', '+', ORPHANS_SEEN, orphans)) do
    local waits = pending[4] > 2 and (suspect or not suspect_allowed) -- for the suspect before it to be settled
    local found = not waits and #seen < most and redis.call('XRANGE', KEYS[lane], pending[1], pending[1])[1]
    if waits or found == false then
      -- another time
    elseif found then
      suspect = suspect or pending[4] > 2
      seen[#seen + 1] = {lane, pending[1], found[2], pending[4] - 1}
    else
      redis.call('XACK', KEYS[lane], group, pending[1]) -- it was deleted while nobody had it
    end
  end
  if #seen < most then
    for _, entry in ipairs(new_entries(lane, most - #seen)) do
      seen[#seen + 1] = {lane, entry[1], entry[2], -1}
    end
  end
end
local function fields_of(entry)
  local email_id, hints, message = nil, '', nil
  for i = 1, #entry[3], 2 do
    if entry[3][i] == 'email_id' then
      email_id = entry[3][i + 1]
    elseif entry[3][i] == 'hints' then
      hints = entry[3][i + 1]
    elseif entry[3][i] == 'message' then
      message = entry[3][i + 1]
    end
  end
  return email_id, hints, message
end
local function own(entry)
  if entry[4] >= 0 then
    redis.call('XCLAIM', KEYS[entry[1]], group, consumer, 0, entry[2], 'RETRYCOUNT', entry[4] + 1, 'JUSTID')
  else
    redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', 1, 'STREAMS', KEYS[entry[1]], '>')
  end
end
local function leave_stream(entry)
  own(entry)
  redis.call('XACK', KEYS[entry[1]], group, entry[2])
  redis.call('XDEL', KEYS[entry[1]], entry[2])
end

-- Emails from a domain that is refused leave for the retry set until the domain is tried again: by one of them.
local function wait_of_domain(domain)
  local due = domain and tonumber(string.match(redis.call('HGET', KEYS[12], domain) or '', '^(%d+) '))
  if not due then
    return nil
  end
  return due > now and due < now + LONGEST_HOLD and due - now or 0
end
local function try_domain(domain)
  local why = string.match(redis.call('HGET', KEYS[12], domain), '^%d+ (.*)$')
  redis.call('HSET', KEYS[12], domain, (now + probe_interval) .. ' ' .. why)
end
local function can_park(entry)
  local email_id, _, message = fields_of(entry)
  return email_id and message
end
local function park(entry, delay)
  local email_id, hints, message = fields_of(entry)
  leave_stream(entry)
  redis.call('HSET', KEYS[6], email_id, hints .. '\n' .. message)
  redis.call('ZADD', KEYS[4], now + delay, email_id)
  redis.call('HSET', KEYS[5], email_id, 'retry:' .. entry[1])
  parked = parked + 1
end

local function due_sends(count, passing_over)
  local found = {}
  for _, email_id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', now, 'LIMIT', 0, 100)) do
    if #found == count then
      break
    end
    local place = redis.call('HGET', KEYS[5], email_id)
    if place and string.sub(place, 1, 5) == 'send:' and not string.match(email_id, UUID) then
      redis.call('ZREM', KEYS[4], email_id) -- no email of ours
      redis.call('HDEL', KEYS[5], email_id)
    elseif place and string.sub(place, 1, 5) == 'send:' and email_id ~= passing_over then
      found[#found + 1] = email_id
    end
  end
  return found
end
local function take_repeats(ids)
  for _, email_id in ipairs(ids) do
    redis.call('ZADD', KEYS[4], now + claim_idle, email_id)
    repeats[#repeats + 1] = email_id
  end
  if #repeats > 0 then
    alive = redis.call('ZRANGEBYSCORE', KEYS[10], now - claim_idle, '+inf')
  end
end
local function count_grants(taken)
  if limit > 0 and taken > 0 then
    local last = number_of('granted')
    last = (last >= 0 and last < 2 ^ 52 and math.floor(last) or 0) + taken
    redis.call('HSET', KEYS[8], 'granted', string.format('%.0f', last))
    for n = 1, taken do
      local number = string.format('%.0f', last - taken + n)
      redis.call('ZADD', KEYS[7], now + ready_in[n], number)
      grants[n] = {number, ready_in[n]}
    end
    if limit_known == '' then
      redis.call('HSET', KEYS[8], 'scouted', now)
    end
  end
end

local function wait_for_more()
  if parked > 0 then
    return 1 -- there may be more behind what was moved
  end
  local next_due = redis.call('ZRANGEBYSCORE', KEYS[4], '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  return next_due[2] and math.min(math.max(1, tonumber(next_due[2]) - now), LONGEST_WAIT) or 0
end

if probing then
  -- Another email than the one before, where there is one: new work first, since a repeat may fail for its own sake.
  local cause, chosen, only = dispatch['cause'] or '', nil, nil
  for lane = 1, 3 do
    local seen = {}
    most = 2
    look_at(lane, seen)
    for _, entry in ipairs(seen) do
      local _, _, _, domain = hints_of(entry)
      local delay = wait_of_domain(domain)
      if chosen then
        break
      elseif delay and delay > 0 and not (only and only[1] == lane) and can_park(entry) then
        park(entry, delay)
      elseif fields_of(entry) ~= cause then
        chosen = entry
      else
        only = only or entry
      end
    end
  end
  local sends = not chosen and due_sends(1, cause) or {}
  if not chosen and #sends == 0 then
    chosen = only
    sends = not chosen and due_sends(1, '') or {}
  end
  if chosen and only and chosen[1] == only[1] and only[4] < 0 and chosen ~= only and chosen[4] < 0 then
    -- The one before stands in front of it: it goes to the end of its stream.
    local email_id, hints, message = fields_of(only)
    leave_stream(only)
    local entry = redis.call('XADD', KEYS[only[1]], '*', 'email_id', email_id, 'hints', hints, 'message', message or '')
    redis.call('HSET', KEYS[5], email_id, 'stream:' .. only[1] .. ':' .. entry)
  end
  if chosen then
    own(chosen)
    requests[1] = {{chosen[1], chosen[2], chosen[3], math.max(0, chosen[4])}}
  else
    take_repeats(sends)
  end
  if chosen or #sends > 0 then
    probes = number_of('number')
    redis.call('HSET', KEYS[8], 'probe_at', now + math.max(probe_interval, probe_patience), 'probed_at', now,
      'probing', probes, 'cause', chosen and fields_of(chosen) or sends[1] or '')
    count_grants(1)
    return answer(0, 0)
  end
  return answer(0, wait_for_more())
end

-- Repeats leave HIGH at least every other grant.
local due = due_sends(left, nil)
if #due > 0 and not paused[HIGH] and (#new_entries(HIGH, 1) > 0
    or #redis.call('XPENDING', KEYS[HIGH], group, '-', '+', 1, orphans) > 0) then
  for i = #due, math.floor((left + (dispatch['repeated'] == '1' and 0 or 1)) / 2) + 1, -1 do
    due[i] = nil
  end
end
take_repeats(due)
left = left - #repeats

local low_credit = math.max(0, math.min(number_of('low_credit'), batch_size))
local low_waits = false
if left > 0 then
  for lane = 1, LOW - 1 do
    if #waiting < most then
      look_at(lane, waiting)
    end
  end
  local low, above, places = {}, #waiting, math.max(left, batch_size)
  most = math.max(most - above, math.ceil(low_credit + low_share * places))
  look_at(LOW, low)
  low_waits = #low > 0
  local reserved = 0
  if low_waits and above > 0 and above + #low > left then
    reserved = math.min(#low, math.floor(low_credit + low_share * math.min(places, above)))
  end
  local ordered = {}
  for i = 1, reserved do
    ordered[#ordered + 1] = low[i]
  end
  for _, entry in ipairs(waiting) do
    ordered[#ordered + 1] = entry
  end
  for i = reserved + 1, #low do
    ordered[#ordered + 1] = low[i]
  end
  waiting = ordered
end

local shared, shared_bytes, shaken, shaken_bytes, low_taken, taken_places = nil, 0, nil, 0, 0, 0
local each_alone = #waiting <= left or batch_size == 1
local read, lane_full = {0, 0, 0}, {false, false, false}
local function request_of(entry)
  if #requests == left then
    return nil
  end
  requests[#requests + 1] = {entry}
  return requests[#requests]
end
local function fits(entry, tries_domain)
  local size, alone, expires = hints_of(entry)
  if entry[4] >= 2 or tries_domain then
    return request_of(entry)
  end
  if each_alone or not size or alone or size > batch_bytes or (expires > 0 and expires < now + EXPIRES_SOON) then
    return request_of(entry)
  end
  if entry[4] == 1 then
    if shaken and #shaken < SHAKEN_SIZE and shaken_bytes + size <= batch_bytes then
      shaken[#shaken + 1] = entry
    else
      shaken, shaken_bytes = request_of(entry), 0
    end
    shaken_bytes = shaken_bytes + size
    return shaken
  end
  if shared then
    if #shared == batch_size or shared_bytes + size > batch_bytes then
      return nil
    end
    shared[#shared + 1] = entry
  else
    shared = request_of(entry)
  end
  shared_bytes = shared_bytes + size
  return shared
end
local function read_new(lane)
  if read[lane] > 0 then
    redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', read[lane], 'STREAMS', KEYS[lane], '>')
    read[lane] = 0
  end
end
for _, entry in ipairs(waiting) do
  local lane = entry[1]
  if entry[4] >= 0 or not lane_full[lane] then -- new entries are read in their order: behind one that does not fit, none does
    local delay, domain = nil, nil
    if #domains > 0 then
      local _, _, _, its_domain = hints_of(entry)
      domain = its_domain
      delay = wait_of_domain(domain)
    end
    if delay and delay > 0 and can_park(entry) then
      read_new(lane)
      park(entry, delay)
    elseif fits(entry, delay == 0) then
      if delay == 0 then
        try_domain(domain)
      end
      taken_places = taken_places + 1
      low_taken = low_taken + (lane == LOW and 1 or 0)
      if entry[4] >= 0 then
        own(entry)
      else
        read[lane] = read[lane] + 1
      end
    elseif entry[4] < 0 then
      lane_full[lane] = true
    end
  end
end
for lane = 1, 3 do
  read_new(lane)
end
for _, request in ipairs(requests) do
  for _, entry in ipairs(request) do
    entry[4] = math.max(0, entry[4])
  end
end

local taken = #repeats + #requests
count_grants(taken)
if taken > 0 then
  local credit = low_waits and low_taken < taken_places and low_credit + low_share * taken_places - low_taken or 0
  credit = string.format('%.4f', math.max(0, math.min(credit, batch_size)))
  local repeated = #repeats > 0 and '1' or '0'
  if credit ~= dispatch['low_credit'] or repeated ~= dispatch['repeated'] then -- else a write for each take
    redis.call('HSET', KEYS[8], 'low_credit', credit, 'repeated', repeated)
  end
end
if taken == slots or not each_alone or parked > 0 then
  redis.call('LPUSH', KEYS[9], '1') -- there may be more than this consumer has slots for
  redis.call('LTRIM', KEYS[9], 0, 0)
end
if taken < granted then
  wait = wait_for_more()
end
return answer(0, wait)
