#!lua
-- limit: changes a running sale's default limit, or gives one user a limit of their own.
--
-- KEYS
--   1 meta  hash  seckill:<item_id>:meta
--   2 vip   hash  seckill:<item_id>:vip
-- ARGV
--   1 epoch  of the sale, decimal
--   2 uid    UUID in lower case; '' for the default limit
--   3 limit  units, decimal
-- Returns
--   'SET'
--   'OTHER'  another epoch, or nothing, is there: nothing was done
-- Errors, all before the first write
--   KAIMAI <what is wrong>, WRONGTYPE, OOM, READONLY

if #KEYS ~= 2 or #ARGV ~= 3 then return redis.error_reply('KAIMAI limit takes 2 keys and 3 arguments') end
if #ARGV[3] > 9 or not string.find(ARGV[3], '^%d+$') then return redis.error_reply('KAIMAI limit is no decimal') end
if ARGV[2] ~= '' and #ARGV[2] ~= 36 then return redis.error_reply('KAIMAI uid is no UUID in lower case') end
redis.call('HLEN', KEYS[2])
if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then return 'OTHER' end

if ARGV[2] == '' then
  redis.call('HSET', KEYS[1], 'limit', ARGV[3])
else
  redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
end
return 'SET'
