#!lua flags=no-writes,allow-oom
-- Count what the DLQ holds.
--
-- KEYS[1]  dlq STREAM
-- KEYS[2]  letters HASH    field = dead_letter_id, value = its entry in the DLQ
--
-- Returns  {entries, letters in the index}
return {redis.call('XLEN', KEYS[1]), redis.call('HLEN', KEYS[2])}
