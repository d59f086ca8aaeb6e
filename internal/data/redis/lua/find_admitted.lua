#!lua flags=no-writes
-- find_admitted: the stream ids that earlier calls of admit gave for these request ids and tokens. It admits nothing, so
-- it is how repeated requests of a closed sale are answered.
--
-- KEYS
--   1 seen0  hash  seckill:<item_id>:seen:0
--   2 seen1  hash  seckill:<item_id>:seen:1
-- ARGV
--   for each purchase, 1 to 1000 of them:
--     uid         UUID in lower case
--     request_id  as admit takes it, perhaps with a token's id behind a zero byte; '' none
-- Returns
--   {id…}  for each purchase its stream id; '' where neither request id nor token was admitted in the last 10 minutes
-- Errors
--   KAIMAI <what is wrong>, WRONGTYPE

-- include: checks

if #KEYS ~= 2 then return fault('find_admitted takes 2 keys') end
if #ARGV < 2 or #ARGV > 2000 or #ARGV % 2 ~= 0 then
  return fault('find_admitted takes 2 arguments for each of 1 to 1000 purchases')
end
local function find(field)
  return redis.call('HGET', KEYS[1], field) or redis.call('HGET', KEYS[2], field)
end

local ids = {}
for i = 1, #ARGV, 2 do
  local uid, rid = ARGV[i], ARGV[i + 1]
  local zero = string.find(rid, '\0', 1, true)
  local token = zero and string.sub(rid, zero) or ''
  if zero then rid = string.sub(rid, 1, zero - 1) end
  local id = token ~= '' and find(uid .. ':' .. token) or rid ~= '' and find(uid .. ':' .. rid)
  ids[#ids + 1] = id or ''
end
return ids
