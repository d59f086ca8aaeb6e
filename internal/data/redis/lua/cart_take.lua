#!lua flags=allow-oom
-- cart_take: takes the units of a checkout out of a cart, once. A line that has more units than were ordered keeps the rest.
--
-- KEYS
--   1 cart     hash  cart:<name>       sku id -> {"qty":2,"add_time":<s>,"selected":true,"price":<fen>}
--   2 meta     hash  cart:<name>:meta  version, saved, lines, taken, merged, merges
--   3 unsaved  zset  cart:unsaved      name -> since when, ms
--   4 due      zset  cart:due          name -> when to save it, ms
-- ARGV
--   1 name      <user_id>
--   2 delay_ms  when to save it, from now, decimal
--   3 checkout  its id, decimal: of two checkouts of a cart the later one has the higher id
--   4 sku_id, qty, … of its lines, at most 500
-- Returns
--   {'TAKEN'}       also when they had left before
--   {'NOT_LOADED'}  Redis has not the cart
-- Errors, all before the first write
--   KAIMAI <what is wrong>, READONLY

-- include: checks
-- include: key_types
-- include: cart

if #KEYS ~= 4 or #ARGV < 5 or #ARGV > 1003 or #ARGV % 2 ~= 1 then
  return fault('cart_take takes 4 keys, a name, a delay, an id and 1 to 500 lines')
end
for i = 2, #ARGV do
  if not is_decimal(ARGV[i], 19) then return fault('argument ' .. i .. ' is not a decimal') end
end
if not is_loaded(KEYS[1], KEYS[2], KEYS[3], KEYS[4]) then return { 'NOT_LOADED' } end
if tonumber(redis.call('HGET', KEYS[2], 'taken') or 0) >= tonumber(ARGV[3]) then return { 'TAKEN' } end

for i = 4, #ARGV, 2 do
  local line = line_of(redis.call('HGET', KEYS[1], ARGV[i]))
  if line then
    line.qty = line.qty - tonumber(ARGV[i + 1])
    if line.qty < 1 then redis.call('HDEL', KEYS[1], ARGV[i])
    else redis.call('HSET', KEYS[1], ARGV[i], text_of(line)) end
  end
end
redis.call('HSET', KEYS[2], 'taken', ARGV[3])
cart_changed(KEYS[1], KEYS[2], KEYS[3], KEYS[4], ARGV[1], tonumber(ARGV[2]))
return { 'TAKEN' }
