#!lua
-- cart_load: brings a saved cart in, if Redis has not got it.
--
-- KEYS
--   1 cart     hash  cart:<name>       sku id -> {"qty":2,"add_time":<s>,"selected":true,"price":<fen>}
--   2 meta     hash  cart:<name>:meta  version, saved, lines, taken, merged, merges
--   3 unsaved  zset  cart:unsaved      name -> since when, ms
--   4 due      zset  cart:due          name -> when to save it, ms
-- ARGV
--   1 name      <user_id> or guest:<token>
--   2 ttl_ms    how long it lives untouched, decimal
--   3 version   that was saved, decimal; 0: none
--   4 taken     the last checkout whose lines have left it, decimal
--   5 merged    '1': it was merged into a user's
--   6 changed   '1': it differs from what was saved and has to be saved again
--   7 replaced  replace a cart that Redis has with this version, decimal; '': none
--   8 sku_id, line, … at most 1000
-- Returns
--   {'LOADED'}
--   {'KEPT'}    Redis had the cart: nothing was done
-- Errors, all before the first write
--   KAIMAI <what is wrong>, OOM, READONLY

-- include: checks
-- include: key_types
-- include: cart

if #KEYS ~= 4 or #ARGV < 7 or #ARGV > 2007 or #ARGV % 2 ~= 1 then
  return fault('cart_load takes 4 keys, 7 arguments and up to 1000 lines')
end
for i = 2, 4 do
  if not is_decimal(ARGV[i], 19) then return fault('argument ' .. i .. ' is not a decimal') end
end
if is_loaded(KEYS[1], KEYS[2], KEYS[3], KEYS[4]) and redis.call('HGET', KEYS[2], 'version') ~= ARGV[7] then return { 'KEPT' } end

redis.call('UNLINK', KEYS[1], KEYS[2])
for i = 8, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('HSET', KEYS[2], 'version', ARGV[3], 'saved', ARGV[3], 'taken', ARGV[4], 'merged', ARGV[5], 'lines', redis.call('HLEN', KEYS[1]))
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('ZREM', KEYS[4], ARGV[1])
if ARGV[6] == '1' then
  cart_changed(KEYS[1], KEYS[2], KEYS[3], KEYS[4], ARGV[1], 0)
else
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  redis.call('PEXPIRE', KEYS[2], ARGV[2])
end
return { 'LOADED' }
