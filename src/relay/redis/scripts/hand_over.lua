-- A session's command is given to another one of the same agent.
--
-- KEYS[1]  the command
-- ARGV[1]  the session that has it
-- ARGV[2]  at which attempt
-- ARGV[3]  the session that gets it
-- ARGV[4]  at which attempt: the same, if it was certainly not written
--
-- Gives 1 if it was still so, else 0.
local now = redis.call('HMGET', KEYS[1], 'owner', 'attempt', 'end')
if now[1] ~= ARGV[1] or now[2] ~= ARGV[2] or now[3] then
  return 0
end
redis.call('HSET', KEYS[1], 'owner', ARGV[3], 'attempt', ARGV[4])
return 1
