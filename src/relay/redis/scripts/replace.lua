-- Replaces fields of hashes, all or none, if they are still what they were.
--
-- KEYS     one hash for each field; then, if the registry is another one by it, the mark of the part that they are of
-- ARGV     field, what it was (empty if it was not there), what it becomes (empty if it goes), and how many fields its hash
--          may have with it if it is new (0: any number); again for each
--
-- Gives 1 if it was done, 0 if something has changed, and -N if the Nth hash is full.
local fields = #ARGV / 4
for i = 1, fields do
  local now = redis.call('HGET', KEYS[i], ARGV[4 * i - 3]) or ''
  if now ~= ARGV[4 * i - 2] then
    return 0
  end
end
for i = 1, fields do
  local most = tonumber(ARGV[4 * i])
  if most > 0 and ARGV[4 * i - 2] == '' and redis.call('HLEN', KEYS[i]) >= most then
    return -i
  end
end
for i = 1, fields do
  if ARGV[4 * i - 1] == '' then
    redis.call('HDEL', KEYS[i], ARGV[4 * i - 3])
  else
    redis.call('HSET', KEYS[i], ARGV[4 * i - 3], ARGV[4 * i - 1])
  end
end
if KEYS[fields + 1] then
  mark_change(KEYS[fields + 1], table.concat(ARGV, ' '))
end
return 1
