-- The clock that sale windows and waiting rooms are judged by, and the end of a window as meta has it.
local function clock_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
local function end_of_window(text)
  if text == '' then return math.huge end
  return tonumber(text)
end
