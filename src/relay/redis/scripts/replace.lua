-- Replaces fields of hashes, all or none, if they are still what they were.
--
-- KEYS     one hash for each field
-- ARGV     field, what it was (empty if it was not there), what it becomes; again for each
--
-- Gives 1 if it was done, 0 if something has changed.
for i = 1, #KEYS do
  local now = redis.call('HGET', KEYS[i], ARGV[3 * i - 2]) or ''
  if now ~= ARGV[3 * i - 1] then
    return 0
  end
end
for i = 1, #KEYS do
  redis.call('HSET', KEYS[i], ARGV[3 * i - 2], ARGV[3 * i])
end
return 1
