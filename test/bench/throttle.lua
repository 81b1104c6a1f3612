-- CL.THROTTLE as a script, without quantity 0: KEYS key, ARGV max_burst, count, period in seconds, quantity.
local burst, interval = tonumber(ARGV[1]) + 1, tonumber(ARGV[3]) * 1e6 / tonumber(ARGV[2])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1e6 + tonumber(time[2])
local arrival = math.max(now, tonumber(redis.call('GET', KEYS[1]) or now))
local increment, tolerance = tonumber(ARGV[4]) * interval, burst * interval
local next = arrival + increment
local wait = next - tolerance - now
if wait > 0 then
  local left = math.max(0, math.floor((tolerance - (arrival - now)) / interval))
  local retry = increment <= tolerance and math.ceil(wait / 1e6) or -1
  return { 1, burst, left, retry, math.ceil((arrival - now) / 1e6) }
end
redis.call('SET', KEYS[1], string.format('%.0f', next), 'PX', math.ceil((next - now) / 1e3))
return { 0, burst, math.floor((now + tolerance - next) / interval), -1, math.ceil((next - now) / 1e6) }
