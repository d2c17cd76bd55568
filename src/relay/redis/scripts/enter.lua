-- A node among all nodes: at maxmemory, too, one that was thought dead is to be heard again.
--
-- KEYS[1]  all nodes
-- ARGV[1]  the node
-- ARGV[2]  its name, for people
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
