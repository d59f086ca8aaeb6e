#!lua flags=allow-oom
-- cart_read: reads a cart. One that is saved lives on for ttl_ms.
--
-- KEYS
--   1 cart  hash  cart:<name>       sku id -> line
--   2 meta  hash  cart:<name>:meta  version, saved, lines, taken, merged, merges
-- ARGV
--   1 ttl_ms  decimal; 0: as it is
-- Returns
--   {'CART', version, saved, taken, merged, merges, sku_id, line, …}
--   {'NOT_LOADED'}  Redis has not the cart
-- Errors, all before the first write
--   KAIMAI <what is wrong>, READONLY

-- include: checks
-- include: key_types
-- include: cart

if #KEYS ~= 2 or #ARGV ~= 1 then return fault('cart_read takes 2 keys and 1 argument') end
if not is_decimal(ARGV[1], 19) then return fault('ttl_ms is not a decimal') end
if not is_loaded(KEYS[1], KEYS[2]) then return { 'NOT_LOADED' } end

local meta = redis.call('HMGET', KEYS[2], 'version', 'saved', 'taken', 'merged', 'merges')
if ARGV[1] ~= '0' and meta[1] == meta[2] and meta[4] ~= '1' then
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
  redis.call('PEXPIRE', KEYS[2], ARGV[1])
end
local reply = { 'CART', meta[1], meta[2] or '0', meta[3] or '0', meta[4] or '0', meta[5] or '' }
for _, text in ipairs(redis.call('HGETALL', KEYS[1])) do reply[#reply + 1] = text end
return reply
