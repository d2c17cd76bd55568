-- A session takes over its agent's commands that have no end: those of other owners, or its own once more.
--
-- KEYS[1]   the agent's open commands
-- KEYS[2..] those commands, as they were listed a moment ago
-- ARGV[1]   the session
-- ARGV[2]   'others' or 'own'
--
-- Gives each command that was taken over, as it is stored now.
local taken = {}
for i = 2, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 0 or redis.call('HEXISTS', KEYS[i], 'end') == 1 then
    redis.call('SREM', KEYS[1], KEYS[i])
  elseif (redis.call('HGET', KEYS[i], 'owner') == ARGV[1]) == (ARGV[2] == 'own') then
    redis.call('HSET', KEYS[i], 'owner', ARGV[1])
    redis.call('HINCRBY', KEYS[i], 'attempt', 1)
    taken[#taken + 1] = redis.call('HGETALL', KEYS[i])
  end
end
return taken
