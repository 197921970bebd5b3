#!lua flags=allow-oom
-- Find open emails that are not where they are said to be, or said to be nowhere.
--
-- KEYS[1..3]  streams HIGH, NORMAL, LOW
-- KEYS[4]     retry ZSET      member = email_id, score = due, Unix ms
-- KEYS[5]     places HASH     field = email_id, value = where the email is
-- KEYS[6]     parked HASH     field = email_id, value = hints, a line feed, message
-- ARGV[1]     1: forget places that are not true, with what belonged to them; 0: only look
-- ARGV[2]     consumer group
-- ARGV[3]     the emails, separated by spaces: email_id, or, of one that is in an open send, email_id/email_id of its first
--
-- Returns  the numbers (1, 2, ...) of those without a true place
--
-- An entry that the group has passed and that is pending for nobody is no place: nobody will ever be given it. That is
-- what XGROUP SETID, DELCONSUMER or XACK by hand leave behind.
-- An email of a send may still be on its stream or parked: whoever takes it there finds its send. An email of no send
-- has no place in one.
local passed = {} -- by lane: the id that the group has been given last, or false

local function parts_of(id)
  local ms, sequence = string.match(id, '^(%d+)%-(%d+)$')
  return tonumber(ms), tonumber(sequence)
end

local function is_given_to_nobody(lane, entry)
  if passed[lane] == nil then
    passed[lane] = false
    local groups = redis.pcall('XINFO', 'GROUPS', KEYS[tonumber(lane)])
    for _, info in ipairs(groups.err and {} or groups) do
      local fields = {}
      for i = 1, #info, 2 do
        fields[info[i]] = info[i + 1]
      end
      if fields['name'] == ARGV[2] then
        passed[lane] = fields['last-delivered-id']
      end
    end
  end
  if not passed[lane] then
    return false
  end
  local ms, sequence = parts_of(entry)
  local last_ms, last_sequence = parts_of(passed[lane])
  if ms > last_ms or (ms == last_ms and sequence > last_sequence) then
    return false
  end
  local pending = redis.pcall('XPENDING', KEYS[tonumber(lane)], ARGV[2], entry, entry, 1)
  return not pending.err and not pending[1]
end

local function on_stream(lane, entry, email_id)
  local found = redis.pcall('XRANGE', KEYS[tonumber(lane)], entry, entry) -- an error: that is no entry id
  local fields = found[1] and found[1][2] or {}
  for i = 1, #fields, 2 do
    if fields[i] == 'email_id' then
      if fields[i + 1] == email_id and is_given_to_nobody(lane, entry) then
        if ARGV[1] == '1' then
          redis.call('XDEL', KEYS[tonumber(lane)], entry)
        end
        return false
      end
      return fields[i + 1] == email_id
    end
  end
  return false
end

local function is_true(place, email_id, first)
  local lane, entry = string.match(place, '^stream:([123]):(%d+%-%d+)$')
  if lane then
    return on_stream(lane, entry, email_id)
  end
  if string.match(place, '^retry:[123]$') then
    return redis.call('ZSCORE', KEYS[4], email_id) and redis.call('HEXISTS', KEYS[6], email_id) == 1
  end
  return first ~= '' and place == 'send:' .. first and redis.call('HGET', KEYS[5], first) == place
    and redis.call('ZSCORE', KEYS[4], first)
end

local ids, firsts = {}, {}
for email_id, first in string.gmatch(ARGV[3], '([^%s/]+)/?(%S*)') do
  ids[#ids + 1] = email_id
  firsts[#firsts + 1] = first
end
local without = {}
for number, place in ipairs(redis.call('HMGET', KEYS[5], unpack(ids))) do
  local email_id, first = ids[number], firsts[number]
  if not place or not is_true(place, email_id, first) then
    without[#without + 1] = number
    if ARGV[1] == '1' then
      redis.call('HDEL', KEYS[5], email_id)
      redis.call('HDEL', KEYS[6], email_id)
      if email_id ~= first then -- else it stands for the whole send
        redis.call('ZREM', KEYS[4], email_id)
      end
    end
  end
end
return without
