-- Since when this server has everything it was told, in seconds; used by other scripts.
--
-- A replica that takes a master's place, and a server that starts again, may lack what was written last. Either way the
-- server has another replication id than before. A tenant without a mark has had no commands: the server's own age counts.
--
-- key   the mark: `id`, `since`
-- now   in seconds
-- kept  how long to keep the mark, in ms
local function complete_since(key, now, kept)
  local id = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)') or ''
  local mark = redis.call('HMGET', key, 'id', 'since')
  local since = mark[2]
  if not since then
    since = now - (string.match(redis.call('INFO', 'server'), 'uptime_in_seconds:(%d+)') or 0)
  elseif mark[1] ~= id then
    since = now
  end
  redis.call('HSET', key, 'id', id, 'since', since)
  redis.call('PEXPIRE', key, kept)
  return tonumber(since)
end

