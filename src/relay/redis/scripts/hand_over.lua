-- A session that has certainly not written a command gives it to another one of the same agent.
--
-- KEYS[1]  the command
-- ARGV[1]  the session that has it
-- ARGV[2]  the session that gets it
--
-- Gives 1 if it was still so, else 0.
local now = redis.call('HMGET', KEYS[1], 'owner', 'attempt', 'end')
if now[1] ~= ARGV[1] or now[2] ~= '1' or now[3] then
  return 0
end
redis.call('HSET', KEYS[1], 'owner', ARGV[2])
return 1
