#!lua
-- cart_merge: moves the lines of a guest cart to the cart of a user, once. Quantities of a SKU that is in both are added up,
-- to at most 10000. A guest cart that had lines is closed. It is saved as merged together with the user's cart and not
-- before, so that its lines are never lost in between.
--
-- KEYS
--   1 guest_cart  hash  cart:guest:<token>       sku id -> line
--   2 guest_meta  hash  cart:guest:<token>:meta  version, saved, lines, merged
--   3 cart        hash  cart:<user_id>           sku id -> line
--   4 meta        hash  cart:<user_id>:meta      version, saved, lines, taken, merges
--   5 unsaved     zset  cart:unsaved             name -> since when, ms
--   6 due         zset  cart:due                 name -> when to save it, ms
-- ARGV
--   1 guest_name  guest:<token>
--   2 name        <user_id>
--   3 delay_ms    when to save it, from now, decimal
--   4 lines_max   decimal
--   5 guest_id    the UUID in the token
--   6 expires_ms  of the token, since 1970, decimal
-- Returns
--   {'MERGED', lines, capped, dropped}  how many lines were moved; SKUs whose quantity reached the limit; SKUs that there
--                                       was no room for. 0 lines: the guest cart was merged before, or is empty
--   {'NOT_LOADED', which}               Redis has not this cart: 'guest' or 'user'
-- Errors, all before the first write
--   KAIMAI <what is wrong>, OOM, READONLY

-- include: checks
-- include: key_types
-- include: cart

if #KEYS ~= 6 or #ARGV ~= 6 then return fault('cart_merge takes 6 keys and 6 arguments') end
for _, i in ipairs({ 3, 4, 6 }) do
  if not is_decimal(ARGV[i], 19) then return fault('argument ' .. i .. ' is not a decimal') end
end
if not is_uuid(ARGV[5]) then return fault('guest_id is not a UUID in lower case') end
if not is_loaded(KEYS[1], KEYS[2]) then return { 'NOT_LOADED', 'guest' } end
if not is_loaded(KEYS[3], KEYS[4], KEYS[5], KEYS[6]) then return { 'NOT_LOADED', 'user' } end

local capped, dropped, lines = {}, {}, {}
local fields = redis.call('HGETALL', KEYS[1])
for i = 1, #fields, 2 do
  local line = line_of(fields[i + 1])
  if line then
    line.sku_id = fields[i]
    lines[#lines + 1] = line
  end
end
if redis.call('HGET', KEYS[2], 'merged') == '1' or #lines == 0 then return { 'MERGED', 0, capped, dropped } end

-- The newest first, so that the oldest are dropped where there is no room.
table.sort(lines, function(a, b)
  if a.add_time ~= b.add_time then return a.add_time > b.add_time end
  return a.sku_id < b.sku_id
end)
local room = tonumber(ARGV[4]) - redis.call('HLEN', KEYS[3])
local moved = 0
for _, line in ipairs(lines) do
  local stored = redis.call('HGET', KEYS[3], line.sku_id)
  local there = line_of(stored)
  if not stored and room < 1 then
    dropped[#dropped + 1] = line.sku_id
  else
    if not stored then room = room - 1 end
    local sum = there or line
    if there then
      sum.qty = there.qty + line.qty
      sum.selected = there.selected or line.selected
    end
    if sum.qty > QUANTITY_MAX then
      sum.qty = QUANTITY_MAX
      capped[#capped + 1] = line.sku_id
    end
    redis.call('HSET', KEYS[3], line.sku_id, text_of(sum))
    moved = moved + 1
  end
end
local merges = redis.call('HGET', KEYS[4], 'merges')
local merge = ARGV[5] .. ':' .. ARGV[6]
redis.call('HSET', KEYS[4], 'merges', merges and merges ~= '' and merges .. ',' .. merge or merge)
cart_changed(KEYS[3], KEYS[4], KEYS[5], KEYS[6], ARGV[2], tonumber(ARGV[3]))
redis.call('UNLINK', KEYS[1])
redis.call('HSET', KEYS[2], 'merged', '1', 'lines', '0')
-- As long as its token: a load must not find the lines again before the user's cart is saved.
redis.call('PEXPIREAT', KEYS[2], ARGV[6])
redis.call('ZREM', KEYS[5], ARGV[1])
redis.call('ZREM', KEYS[6], ARGV[1])
return { 'MERGED', moved, capped, dropped }
