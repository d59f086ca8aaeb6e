#!lua
-- rate: changes how many users of a running sale are let in each second.
--
-- KEYS
--   1 meta  hash  seckill:<item_id>:meta
-- ARGV
--   1 epoch  of the sale, decimal
--   2 rate   users each second, decimal; 0: as they come
-- Returns
--   'SET'
--   'OTHER'  another epoch, or nothing, is there: nothing was done
-- Errors, all before the first write
--   KAIMAI <what is wrong>, WRONGTYPE, OOM, READONLY

if #KEYS ~= 1 or #ARGV ~= 2 then return redis.error_reply('KAIMAI rate takes 1 key and 2 arguments') end
if #ARGV[2] > 9 or not string.find(ARGV[2], '^%d+$') then return redis.error_reply('KAIMAI rate is no decimal') end
if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then return 'OTHER' end

redis.call('HSET', KEYS[1], 'admit_rate', ARGV[2])
return 'SET'
