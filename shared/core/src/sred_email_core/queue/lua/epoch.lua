#!lua flags=allow-oom
-- Tell whether this is the Redis in which the queue was last found complete, and remember it.
--
-- KEYS[1]  epoch STRING   the Redis of the last complete sweep, or the sweep that is under way
-- ARGV[1]  'look': change nothing. 'begin': a sweep begins. 'seal': it has seen everything.
-- ARGV[2]  'begin' and 'seal': name of the sweep
--
-- Returns  {which Redis this is: its run and its replication, what the epoch holds now ('' if nothing)}
--
-- A sweep is sealed only if its mark is still there and this is still the Redis in which it began: what was flushed, or
-- failed over, meanwhile is swept again.
local function section(name, field)
  local info = redis.pcall('INFO', name) -- an error: this user may not ask. Then only a missing epoch tells.
  return type(info) == 'string' and string.match(info, field .. ':(%w+)') or '-'
end
local redis_id = section('server', 'run_id') .. ':' .. section('replication', 'master_replid')
local mark = redis_id .. ' sweep ' .. (ARGV[2] or '')
if ARGV[1] == 'begin' then
  redis.call('SET', KEYS[1], mark)
elseif ARGV[1] == 'seal' and redis.call('GET', KEYS[1]) == mark then
  redis.call('SET', KEYS[1], redis_id)
end
return {redis_id, redis.call('GET', KEYS[1]) or ''}
