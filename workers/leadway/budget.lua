-- Reserves a request slot of one account, or tells the wait. One round trip; Redis' own clock.
-- KEYS[1] the account's hash
-- ARGV    seconds between requests, the longest wait accepted, requests a day this lane may use
-- Returns {granted (1 or 0), wait in seconds as text, what it waits for: pace, held, day}
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local spacing, accepted, day_limit = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])

local state = redis.call('HMGET', KEYS[1], 'next_at', 'held_until', 'spacing', 'spacing_until', 'day', 'used')
local next_at, held_until = tonumber(state[1] or 0), tonumber(state[2] or 0)
if tonumber(state[4] or 0) > now then spacing = math.max(spacing, tonumber(state[3])) end

local day = math.floor(now / 86400)
local used = tonumber(state[5] or -1) == day and tonumber(state[6]) or 0
if used >= day_limit then return {0, string.format('%.3f', (day + 1) * 86400 - now), 'day'} end

local start = math.max(now, next_at, held_until)
if start - now > accepted then
  return {0, string.format('%.3f', start - now), held_until >= next_at and 'held' or 'pace'}
end
redis.call('HSET', KEYS[1], 'next_at', string.format('%.6f', start + spacing), 'day', day, 'used', used + 1)
redis.call('EXPIRE', KEYS[1], 172800)
return {1, string.format('%.6f', start - now), 'pace'}
