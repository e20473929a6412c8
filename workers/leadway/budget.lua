-- Reserves a request slot of one account, or returns the wait. One round trip; Redis' own clock.
-- KEYS[1] the account's hash, KEYS[2] the greatest fence of all processes
-- ARGV    seconds between requests, slots that may be taken at once, longest accepted wait in seconds,
--         requests a day, part of them that this lane may use, seconds in which a slowing fades,
--         seconds for which the asking process has reserved slots already (used if Redis lost its memory),
--         the greatest fence that the asking process has seen (0: none)
-- Returns {granted (1 or 0), wait in seconds, what is waited for: pace, throttled, day,
--          seconds until the account's slots are free again, requests used today}; numbers with fractions as text
if tonumber(ARGV[8]) > tonumber(redis.call('GET', KEYS[2]) or 0) then redis.call('SET', KEYS[2], ARGV[8]) end
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local spacing, burst, accepted = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local per_day, share, fade, ahead = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])

local state = redis.call('HMGET', KEYS[1], 'next_at', 'open_until', 'advertised', 'advertised_until', 'slow',
  'slow_until', 'day', 'used', 'advertised_day')
local next_at, open_until = tonumber(state[1] or now + ahead), tonumber(state[2] or 0)
if next_at > now + 60 then next_at = now end -- no slot is reserved that far ahead: the clock was set back
if tonumber(state[4] or 0) > now then spacing, burst = math.max(spacing, tonumber(state[3])), 1 end
local slowed = tonumber(state[6] or 0) - now
if slowed > 0 then spacing, burst = spacing * (1 + (tonumber(state[5]) - 1) * math.min(1, slowed / fade)), 1 end

local day, used = math.floor(now / 86400), 0
if tonumber(state[7] or -1) == day then
  used, per_day = tonumber(state[8]), math.min(per_day, tonumber(state[9] or per_day))
end
if used >= per_day * share then return {0, string.format('%.3f', (day + 1) * 86400 - now), 'day', '0', used} end

local start = math.max(now, next_at - (burst - 1) * spacing, open_until)
if start - now > accepted then
  return {0, string.format('%.3f', start - now), open_until >= start and 'throttled' or 'pace', '0', used}
end
next_at = math.max(next_at, start) + spacing
if tonumber(state[7] or -1) ~= day then redis.call('HDEL', KEYS[1], 'advertised_day') end
redis.call('HSET', KEYS[1], 'next_at', string.format('%.6f', next_at), 'day', day, 'used', used + 1)
redis.call('EXPIRE', KEYS[1], 172800)
return {1, string.format('%.6f', start - now), 'pace', string.format('%.6f', next_at - now), used + 1}
