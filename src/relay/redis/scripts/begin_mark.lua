-- Marks a part of the registry that has records and no mark.
--
-- KEYS[1]  the mark
-- KEYS[2]  the records
if redis.call('HEXISTS', KEYS[1], 'id') == 0 and redis.call('HLEN', KEYS[2]) > 0 then
  mark_change(KEYS[1], KEYS[2])
end
