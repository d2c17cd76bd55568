-- A step on the way, noted once, of a command that has no end.
--
-- KEYS[1]  the command
-- ARGV     field, milliseconds; again for each step
if redis.call('EXISTS', KEYS[1]) == 1 and redis.call('HEXISTS', KEYS[1], 'end') == 0 then
  for i = 1, #ARGV, 2 do
    redis.call('HSETNX', KEYS[1], ARGV[i], ARGV[i + 1])
  end
end
