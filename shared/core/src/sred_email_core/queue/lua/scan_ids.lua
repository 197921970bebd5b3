#!lua flags=no-writes,allow-oom
-- Go on through the ids that are the fields of a HASH.
--
-- KEYS[1]  the HASH
-- ARGV[1]  cursor: where an earlier call stopped ('0': from the start)   ARGV[2]  about how many fields to look at
--
-- Returns  {cursor to go on from ('0': the end was reached), the ids, separated by spaces, {fields that are no ids}}
--
-- One text is read much faster than thousands.
local x, ids, others = '[0-9a-f]', {}, {}
local uuid = '^' .. x:rep(8) .. ('%-' .. x:rep(4)):rep(3) .. '%-' .. x:rep(12) .. '$'
local answer = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
for i = 1, #answer[2], 2 do
  local field = answer[2][i]
  if string.find(field, uuid) then
    ids[#ids + 1] = field
  else
    others[#others + 1] = field
  end
end
return {answer[1], table.concat(ids, ' '), others}
