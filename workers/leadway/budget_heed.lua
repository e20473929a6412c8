-- Keeps what an answer said about the account's allowance, for every process of the deployment.
-- KEYS[1] the account's hash
-- ARGV    seconds without any request (0: none), factor by which to slow down (1: not), the largest factor,
--         seconds in which the slowing fades, seconds between requests by the answer's headers (0: not advertised),
--         seconds for which those are believed, requests used today and allowed a day (-1: not advertised),
--         seconds by which the next slot is delayed (0: none)
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local wait, factor, most, fade = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local advertised, lasts, used, per_day = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local delay = tonumber(ARGV[9])

local state = redis.call('HMGET', KEYS[1], 'open_until', 'slow', 'slow_until', 'day', 'used', 'next_at')
local open_until = tonumber(state[1] or 0)
if factor > 1 and open_until <= now then -- of several 429s at once only the first slows
  local left, slow = tonumber(state[3] or 0) - now, 1
  if left > 0 then slow = 1 + (tonumber(state[2]) - 1) * math.min(1, left / fade) end
  redis.call('HSET', KEYS[1], 'slow', string.format('%.6f', math.min(most, slow * factor)),
    'slow_until', string.format('%.6f', now + fade))
end
if wait > 0 and now + wait > open_until then
  redis.call('HSET', KEYS[1], 'open_until', string.format('%.6f', now + wait))
end
if advertised > 0 then
  redis.call('HSET', KEYS[1], 'advertised', string.format('%.6f', advertised),
    'advertised_until', string.format('%.6f', now + lasts))
end
if used >= 0 then
  local day = math.floor(now / 86400)
  local known = tonumber(state[4] or -1) == day and tonumber(state[5]) or 0
  redis.call('HSET', KEYS[1], 'day', day, 'used', math.max(known, used), 'advertised_day', per_day)
end
if delay > 0 then
  redis.call('HSET', KEYS[1], 'next_at', string.format('%.6f', math.max(tonumber(state[6] or 0), now) + delay))
end
redis.call('EXPIRE', KEYS[1], 172800)
