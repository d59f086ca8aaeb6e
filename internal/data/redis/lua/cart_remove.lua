#!lua flags=allow-oom
-- cart_remove: removes lines of a cart.
--
-- KEYS
--   1 cart     hash  cart:<name>       sku id -> {"qty":2,"add_time":<s>,"selected":true,"price":<fen>}
--   2 meta     hash  cart:<name>:meta  version, saved, lines, taken, merged, merges
--   3 unsaved  zset  cart:unsaved      name -> since when, ms
--   4 due      zset  cart:due          name -> when to save it, ms
-- ARGV
--   1 name      <user_id> or guest:<token>
--   2 delay_ms  when to save it, from now, decimal
--   3 sku_id …  of the lines, at most 1000; none: all lines
-- Returns
--   {'REMOVED'}     also when there were none
--   {'NOT_LOADED'}  Redis has not the cart
-- Errors, all before the first write
--   KAIMAI <what is wrong>, READONLY

-- include: checks
-- include: key_types
-- include: cart

if #KEYS ~= 4 or #ARGV < 2 or #ARGV > 1002 then return fault('cart_remove takes 4 keys and 2 to 1002 arguments') end
if not is_decimal(ARGV[2], 19) then return fault('delay_ms is not a decimal') end
if not is_loaded(KEYS[1], KEYS[2], KEYS[3], KEYS[4]) then return { 'NOT_LOADED' } end

local removed
if #ARGV == 2 then removed = redis.call('UNLINK', KEYS[1])
else removed = redis.call('HDEL', KEYS[1], unpack(ARGV, 3)) end
if removed > 0 then cart_changed(KEYS[1], KEYS[2], KEYS[3], KEYS[4], ARGV[1], tonumber(ARGV[2])) end
return { 'REMOVED' }
