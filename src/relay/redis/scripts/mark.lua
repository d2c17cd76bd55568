-- The mark of a part of the registry, which stands beside its records; used by other scripts.
--
-- Its head is a hash over all changes: the one before, and what is changed. The first one has the time in it, so that no other
-- registry has the same.
--
-- key     the mark
-- change  what is changed, as text
local HEADS_KEPT = 64
local function mark_change(key, change)
  local at = redis.call('HMGET', key, 'id', 'revision', 'head')
  local head = redis.sha1hex((at[3] or table.concat(redis.call('TIME'), '.')) .. change)
  local revision = (tonumber(at[2]) or 0) + 1
  redis.call('HSET', key, 'id', at[1] or head, 'revision', revision, 'head', head, 'head:' .. revision, head)
  redis.call('HDEL', key, 'head:' .. (revision - HEADS_KEPT))
end

-- Adds an id to a list of at most so many, the newest last.
local IDS_KEPT = 32
local function add_id(list, id)
  local ids = {}
  for known in string.gmatch(list or '', '%S+') do
    if known ~= id then
      ids[#ids + 1] = known
    end
  end
  ids[#ids + 1] = id
  return table.concat(ids, ' ', math.max(1, #ids - IDS_KEPT + 1))
end

