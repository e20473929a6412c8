-- Believes what an answer said about the account's allowance, for every process of the deployment.
-- KEYS[1] the account's hash
-- ARGV    seconds to hold every request (0: none), by what to slow down (1: not), the most it may be slowed,
--         seconds in which that fades, seconds between requests that the answer asks for (0: not told),
--         for how long that is believed, requests used today and allowed a day (-1: not told),
--         seconds by which the next slot is put off (0: none)
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local hold, factor, most, fade = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local told, lasts, used, per_day = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local put_off = tonumber(ARGV[9])

local state = redis.call('HMGET', KEYS[1], 'open_until', 'slow', 'slow_until', 'day', 'used', 'next_at')
local open_until = tonumber(state[1] or 0)
if factor > 1 and open_until <= now then -- of several refused at once, the first slows all
  local left, slow = tonumber(state[3] or 0) - now, 1
  if left > 0 then slow = 1 + (tonumber(state[2]) - 1) * math.min(1, left / fade) end
  redis.call('HSET', KEYS[1], 'slow', string.format('%.6f', math.min(most, slow * factor)),
    'slow_until', string.format('%.6f', now + fade))
end
if hold > 0 and now + hold > open_until then
  redis.call('HSET', KEYS[1], 'open_until', string.format('%.6f', now + hold))
end
if told > 0 then
  redis.call('HSET', KEYS[1], 'told', string.format('%.6f', told), 'told_until', string.format('%.6f', now + lasts))
end
if used >= 0 then
  local day = math.floor(now / 86400)
  local known = tonumber(state[4] or -1) == day and tonumber(state[5]) or 0
  redis.call('HSET', KEYS[1], 'day', day, 'used', math.max(known, used), 'told_day', per_day)
end
if put_off > 0 then
  redis.call('HSET', KEYS[1], 'next_at', string.format('%.6f', math.max(tonumber(state[6] or 0), now) + put_off))
end
redis.call('EXPIRE', KEYS[1], 172800)
