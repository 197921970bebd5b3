#!lua flags=allow-oom
-- Tell that the provider refused an email for its own sake; many in a row, of several kinds and sender domains, all for
-- the same reason, are no email's fault.
--
-- KEYS[1]  refusals HASH   name, count, kind, kinds (1 or 2: two or more), domain, domains (the same)
-- ARGV[1]  name of the refusal   ARGV[2]  kind   ARGV[3]  sender domain
--
-- Returns  how many in a row, where they are of several kinds and sender domains, else 0
local told = redis.call('HMGET', KEYS[1], 'name', 'kind', 'kinds', 'domain', 'domains')
if told[1] ~= ARGV[1] then
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], 'name', ARGV[1], 'count', 1, 'kind', ARGV[2], 'kinds', 1, 'domain', ARGV[3], 'domains', 1)
  redis.call('PEXPIRE', KEYS[1], 3600000)
  return 0
end
if told[2] ~= ARGV[2] then
  redis.call('HSET', KEYS[1], 'kinds', 2)
end
if told[4] ~= ARGV[3] then
  redis.call('HSET', KEYS[1], 'domains', 2)
end
redis.call('PEXPIRE', KEYS[1], 3600000)
local count = tonumber(redis.call('HGET', KEYS[1], 'count')) or 0
redis.call('HSET', KEYS[1], 'count', count + 1)
told = redis.call('HMGET', KEYS[1], 'kinds', 'domains')
return told[1] == '2' and told[2] == '2' and count + 1 or 0
