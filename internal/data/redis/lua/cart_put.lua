#!lua
-- cart_put: adds a line to a cart, or changes the one that is there.
--
-- KEYS
--   1 cart     hash  cart:<name>       sku id -> {"qty":2,"add_time":<s>,"selected":true,"price":<fen>}
--   2 meta     hash  cart:<name>:meta  version, saved, lines, taken, merged, merges
--   3 unsaved  zset  cart:unsaved      name -> since when, ms
--   4 due      zset  cart:due          name -> when to save it, ms
-- ARGV
--   1 name       <user_id> or guest:<token>
--   2 delay_ms   when to save it, from now, decimal
--   3 lines_max  decimal
--   4 sku_id     decimal
--   5 qty        decimal; '': as it is, 1 for a new line
--   6 selected   '1' '0'; '': as it is, '1' for a new line
--   7 price      of a unit, fen, decimal: for a new line
--   8 may_add    '1': a new line may be added
-- Returns
--   {'PUT', line}   the line as it is stored now
--   {'NO_LINE'}     it may not be added
--   {'FULL'}        there are lines_max lines
--   {'MERGED'}      the guest cart was merged
--   {'NOT_LOADED'}  Redis has not the cart
-- Errors, all before the first write
--   KAIMAI <what is wrong>, WRONGTYPE, OOM, READONLY

-- include: checks
-- include: key_types
-- include: cart

if #KEYS ~= 4 or #ARGV ~= 8 then return fault('cart_put takes 4 keys and 8 arguments') end
for _, i in ipairs({ 2, 3, 4, 7 }) do
  if not is_decimal(ARGV[i], 19) then return fault('argument ' .. i .. ' is not a decimal') end
end
local qty = tonumber(ARGV[5])
if ARGV[5] ~= '' and not whole(qty, 1, QUANTITY_MAX) then return fault('qty is not within 1 to ' .. QUANTITY_MAX) end
if not is_loaded(KEYS[1], KEYS[2], KEYS[3], KEYS[4]) then return { 'NOT_LOADED' } end
if redis.call('HGET', KEYS[2], 'merged') == '1' then return { 'MERGED' } end

local stored = redis.call('HGET', KEYS[1], ARGV[4])
local line = line_of(stored)
if not line then
  if ARGV[8] ~= '1' then return { 'NO_LINE' } end
  if not stored and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[3]) then return { 'FULL' } end
  line = { qty = 1, selected = true, add_time = tonumber(redis.call('TIME')[1]) }
end
line.qty = qty or line.qty
if ARGV[6] ~= '' then line.selected = ARGV[6] == '1' end
line.price = line.price or tonumber(ARGV[7])
local text = text_of(line)
if text ~= stored then
  redis.call('HSET', KEYS[1], ARGV[4], text)
  cart_changed(KEYS[1], KEYS[2], KEYS[3], KEYS[4], ARGV[1], tonumber(ARGV[2]))
end
return { 'PUT', text }
