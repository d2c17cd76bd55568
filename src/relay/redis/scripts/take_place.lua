-- Marks a part of the registry anew: it takes the place of what it was, of what is missed, and of what a node knows.
--
-- KEYS[1]  the mark
-- KEYS[2]  the records
-- ARGV[1]  the id that the node knows; empty if it knows none
local was = redis.call('HMGET', KEYS[1], 'id', 'follows', 'missing')
local follows = was[2] or ''
for missed in string.gmatch(was[3] or '', '%S+') do
  follows = add_id(follows, missed)
end
if was[1] then
  follows = add_id(follows, was[1])
end
if ARGV[1] ~= '' then
  follows = add_id(follows, ARGV[1])
end
redis.call('DEL', KEYS[1])
if redis.call('HLEN', KEYS[2]) > 0 then
  mark_change(KEYS[1], follows)
end
redis.call('HSET', KEYS[1], 'follows', follows)
