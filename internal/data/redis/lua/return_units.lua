#!lua
-- return_units: units of cancelled orders return to the sale, once for each order and only in the epoch they belong to.
--
-- KEYS
--   1 meta      hash    seckill:<item_id>:meta
--   2 stock     string  seckill:<item_id>:stock
--   3 buyers    hash    seckill:<item_id>:buyers
--   4 returned  set     seckill:<item_id>:returned  order ids whose units were given back (and entries that finish knows)
-- ARGV
--   1 epoch     of the sale when the order was cancelled, decimal
--   2 order_id  decimal
--   3 uid       UUID in lower case
--   4 units     1 to 999999999, decimal
-- Returns
--   'RETURNED'
--   'REPEATED'   this order's units came back before
--   'STALE'      a later epoch is there, whose stock was counted after the order was cancelled
--   'NOT_READY'  the epoch is not loaded yet: try again
-- Errors, all before the first write
--   KAIMAI <what is wrong>, WRONGTYPE, OOM, READONLY

if #KEYS ~= 4 or #ARGV ~= 4 then return redis.error_reply('KAIMAI return_units takes 4 keys and 4 arguments') end
for _, i in ipairs({ 1, 2, 4 }) do
  if #ARGV[i] > 19 or not string.find(ARGV[i], '^%d+$') then
    return redis.error_reply('KAIMAI argument ' .. i .. ' is no decimal')
  end
end
if #ARGV[4] > 9 then return redis.error_reply('KAIMAI units are more than 999999999') end
local there = redis.call('HGET', KEYS[1], 'epoch')
local stock = redis.call('GET', KEYS[2])
if not there or not stock or tonumber(there) < tonumber(ARGV[1]) then return 'NOT_READY' end
if there ~= ARGV[1] then return 'STALE' end
local taken = redis.call('HGET', KEYS[3], ARGV[3])
if not tonumber(stock) or (taken and not tonumber(taken)) then
  return redis.error_reply('KAIMAI stock or buyers holds no number')
end
if redis.call('SISMEMBER', KEYS[4], ARGV[2]) == 1 then return 'REPEATED' end

redis.call('SADD', KEYS[4], ARGV[2])
redis.call('INCRBY', KEYS[2], ARGV[4])
if redis.call('HINCRBY', KEYS[3], ARGV[3], '-' .. ARGV[4]) <= 0 then redis.call('HDEL', KEYS[3], ARGV[3]) end
return 'RETURNED'
