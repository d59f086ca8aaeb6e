#!lua
-- move_in: puts units that move_out took from another segment into this one, once for each move. Each process that meets a
-- move under way may call it.
--
-- KEYS
--   1 meta      hash    seckill:<item_id>:meta      moved_in: how many moves have arrived
--   2 stock     string  seckill:<item_id>:stock
--   3 returned  set     seckill:<item_id>:returned  move:<id> of each move that has arrived, beside what else it holds
-- ARGV
--   1 epoch    of the sale when the units were taken, decimal
--   2 move_id  as move_out had it
--   3 units    that move_out took, decimal
-- Returns
--   'MOVED'
--   'REPEATED'  the move has arrived before
--   'OTHER'     another epoch, or nothing, is here: nothing was done
-- Errors, all before the first write
--   KAIMAI <what is wrong>, WRONGTYPE, OOM, READONLY

-- include: checks
-- include: expire_with

if #KEYS ~= 3 or #ARGV ~= 3 then return fault('move_in takes 3 keys and 3 arguments') end
if not is_uuid(ARGV[2]) or not is_decimal(ARGV[3], 15) then return fault('move_in takes a UUID and units') end
local there, stock = redis.call('HGET', KEYS[1], 'epoch'), redis.call('GET', KEYS[2])
if there ~= ARGV[1] or not stock then return 'OTHER' end
if not is_integer(stock) then return unreadable('stock holds no number') end
if redis.call('SISMEMBER', KEYS[3], 'move:' .. ARGV[2]) == 1 then return 'REPEATED' end
redis.call('SADD', KEYS[3], 'move:' .. ARGV[2])
redis.call('HINCRBY', KEYS[1], 'moved_in', '1')
redis.call('INCRBY', KEYS[2], ARGV[3])
expire_with(KEYS[1], KEYS[3])
return 'MOVED'
