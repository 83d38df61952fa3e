-- Append entries to a list, only where it is as long as the writer believes.
-- KEYS: the list. ARGV: the length, the seconds it is kept from now on, the entries.
-- Returns 1, or 0 if the list has another length.
if redis.call('LLEN', KEYS[1]) ~= tonumber(ARGV[1]) then
    return 0
end
redis.call('RPUSH', KEYS[1], unpack(ARGV, 3))
redis.call('EXPIRE', KEYS[1], ARGV[2])
return 1
