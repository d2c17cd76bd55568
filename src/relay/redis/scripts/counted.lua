-- What is kept and forgotten by itself, counted by when that will be; used by other scripts.
--
-- Redis tells nobody when it forgets a key. So a counter is a hash: a period of six hours, and what will be forgotten in it.
-- When a period is over, it is gone from the counter as the keys are gone. A counter lives and is lost with what it counts,
-- on one server; one that was lost alone is right again when what it should have counted is gone.
local PERIOD = 21600

local function period(ms_ahead)
  return string.format('%d', math.floor((redis.call('TIME')[1] + ms_ahead / 1000) / PERIOD))
end

-- How much there is.
local function sum(counter)
  local now, total = tonumber(period(0)), 0
  local periods = redis.call('HGETALL', counter)
  for i = 1, #periods, 2 do
    if tonumber(periods[i]) < now then
      redis.call('HDEL', counter, periods[i])
    else
      total = total + tonumber(periods[i + 1])
    end
  end
  return total
end

-- Counts `amount` until it is forgotten, in so many ms; and no more what a key has counted before, as its field says. That
-- field is written anew.
local function count(counter, key, field, amount, forgotten_in)
  local before, was = string.match(redis.call('HGET', key, field) or '', '^(%d+) (%d+)$')
  if before and redis.call('HINCRBY', counter, before, -was) <= 0 then
    redis.call('HDEL', counter, before)
  end
  local now = period(forgotten_in)
  redis.call('HINCRBY', counter, now, amount)
  redis.call('PEXPIRE', counter, forgotten_in + 2 * PERIOD * 1000)
  redis.call('HSET', key, field, now .. ' ' .. amount)
end

