-- Errors and argument checks. `fault`: the caller sent something wrong; `unreadable`: a key holds something wrong.
local function fault(what) return redis.error_reply('KAIMAI ' .. what) end
local function unreadable(what) return redis.error_reply('KAIMAI unreadable: ' .. what) end
local function is_decimal(text, digits) return #text <= digits and string.find(text, '^%d+$') ~= nil end
local function is_integer(text) return #text <= 15 and string.find(text, '^%-?%d+$') ~= nil end
local function is_uuid(text)
  return #text == 36 and string.find(text, '^[0-9a-f]+%-[0-9a-f]+%-[0-9a-f]+%-[0-9a-f]+%-[0-9a-f]+$') ~= nil
end
