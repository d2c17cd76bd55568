-- A node's lease, for so long. It is one small value for each node: at maxmemory, too, nodes are to know of each other.
--
-- KEYS[1]  the lease
-- ARGV[1]  what the node says about itself
-- ARGV[2]  for how long, in ms
--
-- Gives what it said before; nothing, if it held no lease.
return redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2], 'GET')
