#!lua flags=allow-oom
-- withdraw: lowers the total of a running sale, by units that no purchase was admitted to.
--
-- It runs before PostgreSQL has the lower total, so that no purchase is admitted to a unit that is about to go. If
-- PostgreSQL does not get it, the totals differ under one version, and the sale is loaded again.
--
-- KEYS
--   1 meta   hash    seckill:<item_id>:meta
--   2 stock  string  seckill:<item_id>:stock
-- ARGV
--   1 epoch    of the sale, decimal
--   2 version  settings version of the sale before the change, decimal
--   3 total    units for sale in all, decimal
-- Returns
--   {'WITHDRAWN'}
--   {'SHORT', stock}  fewer units are left than would go: nothing was done
--   {'OTHER'}         another epoch or version, or nothing, is here: nothing was done
-- Errors, all before the first write
--   KAIMAI <what is wrong>, WRONGTYPE, READONLY

-- include: checks

if #KEYS ~= 2 or #ARGV ~= 3 then return fault('withdraw takes 2 keys and 3 arguments') end
for i = 1, 2 do
  if not is_decimal(ARGV[i], 19) then return fault('argument ' .. i .. ' is not a decimal') end
end
if not is_decimal(ARGV[3], 15) then return fault('total is not a decimal of at most 15 digits') end
local stock = redis.call('GET', KEYS[2])
local meta = redis.call('HMGET', KEYS[1], 'epoch', 'version', 'total')
if meta[1] ~= ARGV[1] or meta[2] ~= ARGV[2] or not stock then return { 'OTHER' } end
if not (is_integer(stock) and meta[3] and is_decimal(meta[3], 15)) then return unreadable('stock or total holds no number') end

local less = tonumber(meta[3]) - tonumber(ARGV[3])
if less > 0 and tonumber(stock) < less then return { 'SHORT', stock } end
if less ~= 0 then
  redis.call('DECRBY', KEYS[2], string.format('%.0f', less))
  redis.call('HSET', KEYS[1], 'total', ARGV[3])
end
return { 'WITHDRAWN' }
