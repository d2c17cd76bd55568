-- A signed outcome: it replaces what a relay said on its own, and nothing replaces it.
--
-- KEYS[1]  the command
-- KEYS[2]  the agent's open commands
-- KEYS[3]  the counter of what the tenant keeps, in bytes
-- KEYS[4]  the counter of the agent's outcomes whose command was not known
-- ARGV[1]  agent
-- ARGV[2]  end, as JSON
-- ARGV[3]  how long to keep the command, in ms
-- ARGV[4]  entry, for a command that is not known (any more); empty if it is not to be stored then
-- ARGV[5]  the command's id
-- ARGV[6]  how many bytes the tenant may keep
-- ARGV[7]  how many outcomes of the agent may be kept whose command was not known
-- ARGV[8]  what the command measures then, in bytes
-- ARGV[9]  field and milliseconds of each step on the way that was not noted yet
--
-- Gives 'foreign', 'other', 'already', 'unknown', 'bytes' or 'forgotten' (there is no room), or the command as it is stored
-- now. One that measures no more than before always finds room.
local now = redis.call('HMGET', KEYS[1], 'agent', 'end', 'bytes')
if not now[1] then
  local ends = ':' .. ARGV[5]
  for _, open in ipairs(redis.call('SMEMBERS', KEYS[2])) do
    if string.sub(open, -#ends) == ends then
      return 'other'
    end
  end
  if ARGV[4] == '' then
    return 'unknown'
  elseif sum(KEYS[4]) >= tonumber(ARGV[7]) then
    return 'forgotten'
  elseif sum(KEYS[3]) + ARGV[8] > tonumber(ARGV[6]) then
    return 'bytes'
  end
  redis.call('HSET', KEYS[1], 'entry', ARGV[4], 'agent', ARGV[1], 'attempt', 0)
  count(KEYS[4], KEYS[1], 'forgotten', 1, ARGV[3])
elseif now[1] ~= ARGV[1] then
  return 'foreign'
elseif now[2] and string.find(now[2], '"outcome"', 1, true) == 2 then
  return 'already'
else
  local more = ARGV[8] - (string.match(now[3] or '', ' (%d+)$') or ARGV[8])
  if more > 0 and sum(KEYS[3]) + more > tonumber(ARGV[6]) then
    return 'bytes'
  end
end
for i = 9, #ARGV, 2 do
  redis.call('HSETNX', KEYS[1], ARGV[i], ARGV[i + 1])
end
redis.call('HSET', KEYS[1], 'end', ARGV[2])
redis.call('HDEL', KEYS[1], 'jws')
redis.call('SREM', KEYS[2], KEYS[1])
count(KEYS[3], KEYS[1], 'bytes', ARGV[8], ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return redis.call('HGETALL', KEYS[1])
