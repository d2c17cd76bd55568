-- Notes that a registry is missed here.
--
-- KEYS[1]  the mark
-- ARGV[1]  the registry's id
redis.call('HSET', KEYS[1], 'missing', add_id(redis.call('HGET', KEYS[1], 'missing'), ARGV[1]))
