#!lua
-- move_out: takes units out of a segment of a running sale for another segment, and notes the move. The units are neither
-- here nor there until move_in puts them in; the note stays until then, so that any process can see the move through.
--
-- KEYS
--   1 meta   hash    seckill:<item_id>:meta   move:<id> -> '<segment> <units>' of each move under way
--   2 stock  string  seckill:<item_id>:stock
-- ARGV
--   1 epoch    of the sale as the caller knows it, decimal
--   2 move_id  the caller's, never used before
--   3 to       the segment that gets the units, decimal
--   4 units    at most that many, decimal
-- Returns
--   units  that were taken: 0 where there are none
--   'OTHER'  another epoch, or nothing, is here: nothing was done
-- Errors, all before the first write
--   KAIMAI <what is wrong>, WRONGTYPE, OOM, READONLY

-- include: checks

if #KEYS ~= 2 or #ARGV ~= 4 then return fault('move_out takes 2 keys and 4 arguments') end
if not is_uuid(ARGV[2]) or not is_decimal(ARGV[3], 2) or not is_decimal(ARGV[4], 15) then
  return fault('move_out takes a UUID, a segment and units')
end
local meta = redis.call('HMGET', KEYS[1], 'epoch', 'closed')
local stock = redis.call('GET', KEYS[2])
if meta[1] ~= ARGV[1] or meta[2] or not stock then return 'OTHER' end
if not is_integer(stock) then return unreadable('stock holds no number') end
local units = math.min(tonumber(ARGV[4]), tonumber(stock))
if units <= 0 then return 0 end
redis.call('HSET', KEYS[1], 'move:' .. ARGV[2], ARGV[3] .. ' ' .. string.format('%.0f', units))
redis.call('DECRBY', KEYS[2], string.format('%.0f', units))
return units
