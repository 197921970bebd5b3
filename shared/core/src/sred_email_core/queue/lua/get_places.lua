#!lua flags=no-writes,allow-oom
-- Where emails are said to be.
--
-- KEYS[1]  places HASH     field = email_id, value = where the email is
-- ARGV     email_ids
--
-- Returns  the place of each ('' if it has none)
local places = {}
for number, email_id in ipairs(ARGV) do
  places[number] = redis.call('HGET', KEYS[1], email_id) or ''
end
return places
