-- A command comes in: it is stored with what is to happen to it, or what was stored before is given back.
--
-- KEYS[1]  the command
-- KEYS[2]  the agent's open commands
-- KEYS[3]  the tenant's mark, for `complete_since`
-- KEYS[4]  the counter of what the tenant keeps, in bytes
-- ARGV[1]  entry: the parts that never change, as JSON
-- ARGV[2]  agent
-- ARGV[3]  jws
-- ARGV[4]  owner: the session that will; empty if nobody will
-- ARGV[5]  end, as JSON; empty if somebody will
-- ARGV[6]  how long to keep the command, in ms
-- ARGV[7]  how long to keep the list of open commands, and the mark, in ms
-- ARGV[8]  now, in seconds
-- ARGV[9]  when the command can have come before, at the earliest, in seconds
-- ARGV[10] how many bytes the tenant may keep
-- ARGV[11] what a command measures beside its jws, in bytes
-- ARGV[12] a channel, on this server, that is told if it is new; may be absent
-- ARGV[13] what it is told
--
-- Gives the command as it was stored before. If it is new, two numbers: how many have listened on the channel, and 1 if it
-- may have come before and been forgotten: then nobody may say that it was not written. 'quota' if there is no room.
local known = redis.call('HGETALL', KEYS[1])
if #known > 0 then
  return known
end
local forgotten = complete_since(KEYS[3], ARGV[8], ARGV[7]) > tonumber(ARGV[9])
local open = ARGV[5] == '' or forgotten
local bytes = ARGV[11] + (open and #ARGV[3] or 0)
if sum(KEYS[4]) + bytes > tonumber(ARGV[10]) then
  return 'quota'
end
redis.call('HSET', KEYS[1], 'entry', ARGV[1], 'agent', ARGV[2], 'attempt', forgotten and 2 or 1)
if open then
  redis.call('HSET', KEYS[1], 'jws', ARGV[3])
  if ARGV[4] ~= '' then
    redis.call('HSET', KEYS[1], 'owner', ARGV[4])
  end
  redis.call('SADD', KEYS[2], KEYS[1])
  redis.call('PEXPIRE', KEYS[2], ARGV[7])
else
  redis.call('HSET', KEYS[1], 'end', ARGV[5])
end
count(KEYS[4], KEYS[1], 'bytes', bytes, ARGV[6])
redis.call('PEXPIRE', KEYS[1], ARGV[6])
local listeners = ARGV[12] and redis.call('SPUBLISH', ARGV[12], ARGV[13]) or 0
return { listeners, forgotten and 1 or 0 }
