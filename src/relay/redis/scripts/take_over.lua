-- A session takes over its agent's commands that have no end: those of other owners, or its own once more; some at a time.
--
-- KEYS[1]   the agent's open commands
-- KEYS[2..] those commands, as they were listed a moment ago
-- ARGV[1]   the session
-- ARGV[2]   'others' or 'own'
-- ARGV[3]   how many, at the most
-- ARGV[4]   behind which: when that was accepted, in ms; empty for the first ones
-- ARGV[5]   the key of that
--
-- Gives each command that was taken over, as it is stored now, oldest first.
local found = {}
for i = 2, #KEYS do
  local now = redis.call('HMGET', KEYS[i], 'entry', 'owner', 'end')
  if not now[1] or now[3] then
    redis.call('SREM', KEYS[1], KEYS[i])
  elseif (now[2] == ARGV[1]) == (ARGV[2] == 'own') then
    found[#found + 1] = { tonumber(string.match(now[1], '"accepted_ms":(%d+)')), KEYS[i] }
  end
end
local function is_before(one, other)
  if one[1] ~= other[1] then
    return one[1] < other[1]
  end
  return one[2] < other[2]
end
table.sort(found, is_before)
local after = ARGV[4] ~= '' and { tonumber(ARGV[4]), ARGV[5] }
local taken = {}
for _, open in ipairs(found) do
  if #taken == tonumber(ARGV[3]) then
    break
  end
  if not after or is_before(after, open) then
    redis.call('HSET', open[2], 'owner', ARGV[1])
    redis.call('HINCRBY', open[2], 'attempt', 1)
    taken[#taken + 1] = redis.call('HGETALL', open[2])
  end
end
return taken
