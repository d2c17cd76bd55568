-- A tenant's agents that are in service. A text inside of a record can't look like this mark: its quotes are escaped.
--
-- KEYS[1]  the tenant's agents
--
-- Gives their records.
local found = {}
for _, record in ipairs(redis.call('HVALS', KEYS[1])) do
  if string.find(record, '"status":"approved"', 1, true) then
    found[#found + 1] = record
  end
end
return found
