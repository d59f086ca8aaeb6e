-- Stream ids, `<ms>-<sequence>`. Both parts go up to 2^64, beyond what a double holds, so they are compared as text.
local LAST_STREAM_ID = '18446744073709551615-18446744073709551615'
local function is_stream_id(text) return string.find(text, '^%d+%-%d+$') ~= nil end
local function decimal_not_above(a, b)
  if #a ~= #b then return #a < #b end
  return a <= b
end
local function id_not_above(a, b)
  local a_ms, a_seq = string.match(a, '^(%d+)%-(%d+)$')
  local b_ms, b_seq = string.match(b, '^(%d+)%-(%d+)$')
  if a_ms == b_ms then return decimal_not_above(a_seq, b_seq) end
  return decimal_not_above(a_ms, b_ms)
end
local function last_stream_id(key)
  local info = redis.call('XINFO', 'STREAM', key)
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then return info[i + 1] end
  end
end
