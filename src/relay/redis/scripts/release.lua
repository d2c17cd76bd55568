-- A session is gone. At maxmemory, too: whoever could not release it would have to remember it.
--
-- KEYS[1]  the agent's sessions
-- KEYS[2]  the mark of an agent that lost its last session a moment ago
-- ARGV[1]  the session
-- ARGV[2]  for how long the agent may return, in ms; 0 if it will not
redis.call('HDEL', KEYS[1], ARGV[1])
if ARGV[2] == '0' then
  redis.call('DEL', KEYS[2])
else
  redis.call('SET', KEYS[2], 1, 'PX', ARGV[2])
end
