#!lua
-- return_units: gives units of a cancelled or refunded order back to its sale, once for each return and only in the
-- epoch they belong to.
--
-- The units of an entry that another program added are counted when `finish` takes it off the stream. If its order is
-- cancelled before that, the user's count is below 0 in between.
--
-- KEYS
--   1 meta      hash    seckill:<item_id>:meta
--   2 stock     string  seckill:<item_id>:stock
--   3 buyers    hash    seckill:<item_id>:buyers
--   4 returned  set     seckill:<item_id>:returned  returns that were made, beside the entries of finish
-- ARGV
--   1 epoch      of the sale when the units were returned in PostgreSQL, decimal
--   2 return_id  of the cancelled order, or of the refund, decimal
--   3 uid        UUID in lower case
--   4 units      1 to 999999999, decimal
-- Returns
--   'RETURNED'
--   'REPEATED'   these units were returned before
--   'STALE'      a later epoch is here, whose stock was counted after that
--   'NOT_READY'  the epoch is not loaded yet: try again
-- Errors, all before the first write
--   KAIMAI <what is wrong>, WRONGTYPE, OOM, READONLY

-- include: checks
-- include: expire_with

if #KEYS ~= 4 or #ARGV ~= 4 then return fault('return_units takes 4 keys and 4 arguments') end
for _, i in ipairs({ 1, 2 }) do
  if not is_decimal(ARGV[i], 19) then return fault('argument ' .. i .. ' is not a decimal') end
end
if not is_uuid(ARGV[3]) then return fault('uid is not a UUID in lower case') end
if not is_decimal(ARGV[4], 9) then return fault('units are not a decimal of at most 9 digits') end
local there = redis.call('HGET', KEYS[1], 'epoch')
local stock = redis.call('GET', KEYS[2])
if not there or not stock then return 'NOT_READY' end
if not is_decimal(there, 10) or not is_integer(stock) then return unreadable('epoch or stock holds no number') end
if tonumber(there) < tonumber(ARGV[1]) then return 'NOT_READY' end
if there ~= ARGV[1] then return 'STALE' end
local taken = redis.call('HGET', KEYS[3], ARGV[3]) or '0'
if not is_integer(taken) then return unreadable('buyers holds no number') end
if redis.call('SISMEMBER', KEYS[4], ARGV[2]) == 1 then return 'REPEATED' end

redis.call('SADD', KEYS[4], ARGV[2])
redis.call('INCRBY', KEYS[2], ARGV[4])
if redis.call('HINCRBY', KEYS[3], ARGV[3], '-' .. ARGV[4]) == 0 then redis.call('HDEL', KEYS[3], ARGV[3]) end
expire_with(KEYS[1], KEYS[3])
expire_with(KEYS[1], KEYS[4])
return 'RETURNED'
