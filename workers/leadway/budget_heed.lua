-- Believes what an answer said about the account's allowance, for every process of the deployment.
-- KEYS[1] the account's hash
-- ARGV    seconds to hold every request (0: none), seconds between requests (0: as before),
--         how long that holds, requests used today at least (-1: not told), factor on the present spacing,
--         the usual spacing
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local hold, spacing, lasts = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local used, factor, usual = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])

local state = redis.call('HMGET', KEYS[1], 'held_until', 'spacing', 'spacing_until', 'day', 'used')
if hold > 0 then
  redis.call('HSET', KEYS[1], 'held_until', string.format('%.6f', math.max(tonumber(state[1] or 0), now + hold)))
end
local present = usual
if tonumber(state[3] or 0) > now then present = math.max(usual, tonumber(state[2])) end
local wanted = math.max(spacing, math.min(present * factor, usual * 4))
if wanted > usual then
  redis.call('HSET', KEYS[1], 'spacing', string.format('%.6f', math.max(wanted, present)),
    'spacing_until', string.format('%.6f', now + lasts))
end
if used >= 0 then
  local day = math.floor(now / 86400)
  local known = tonumber(state[4] or -1) == day and tonumber(state[5]) or 0
  redis.call('HSET', KEYS[1], 'day', day, 'used', math.max(known, used))
end
redis.call('EXPIRE', KEYS[1], 172800)
