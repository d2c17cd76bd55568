-- A command comes in: it is stored with what is to happen to it, or what was stored before is given back.
--
-- KEYS[1]  the command
-- KEYS[2]  the agent's open commands
-- ARGV[1]  entry: the parts that never change, as JSON
-- ARGV[2]  agent
-- ARGV[3]  jws; empty if nobody will deliver it
-- ARGV[4]  owner: the session that will; empty if nobody will
-- ARGV[5]  end, as JSON; empty if somebody will
-- ARGV[6]  how long to keep the command, in ms
-- ARGV[7]  how long to keep the list of open commands, in ms
-- ARGV[8]  a channel, on this server, that is told if it is new; may be absent
-- ARGV[9]  what it is told
--
-- Gives how many have listened there if it is new, else the command as it is stored.
local known = redis.call('HGETALL', KEYS[1])
if #known > 0 then
  return known
end
redis.call('HSET', KEYS[1], 'entry', ARGV[1], 'agent', ARGV[2], 'attempt', 1)
if ARGV[5] == '' then
  redis.call('HSET', KEYS[1], 'jws', ARGV[3], 'owner', ARGV[4])
  redis.call('SADD', KEYS[2], KEYS[1])
  redis.call('PEXPIRE', KEYS[2], ARGV[7])
else
  redis.call('HSET', KEYS[1], 'end', ARGV[5])
end
redis.call('PEXPIRE', KEYS[1], ARGV[6])
if ARGV[8] then
  return redis.call('SPUBLISH', ARGV[8], ARGV[9])
end
return 0
