-- Nothing was written and nothing will be: only the owner may say so, and only at the first attempt.
--
-- KEYS[1]  the command
-- KEYS[2]  the agent's open commands
-- KEYS[3]  the counter of what the tenant keeps, in bytes
-- ARGV[1]  the session that says so
-- ARGV[2]  end, as JSON
-- ARGV[3]  how long to keep the command, in ms
-- ARGV[4]  what it measures then, in bytes
--
-- Gives the command as it is stored now, or an empty list if it was not so.
local now = redis.call('HMGET', KEYS[1], 'owner', 'attempt', 'end')
if now[1] ~= ARGV[1] or now[2] ~= '1' or now[3] then
  return {}
end
redis.call('HSET', KEYS[1], 'end', ARGV[2])
redis.call('HDEL', KEYS[1], 'jws')
redis.call('SREM', KEYS[2], KEYS[1])
count(KEYS[3], KEYS[1], 'bytes', ARGV[4], ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return redis.call('HGETALL', KEYS[1])
