#!lua
-- close: ends a sale's admission for good. Its keys stay long enough for callers that have not heard of it yet.
--
-- KEYS
--   1 meta      hash    seckill:<item_id>:meta
--   2 stock     string  seckill:<item_id>:stock
--   3 req       string  seckill:<item_id>:req
--   4 buyers    hash    seckill:<item_id>:buyers
--   5 vip       hash    seckill:<item_id>:vip
--   6 returned  set     seckill:<item_id>:returned
-- ARGV
--   1 epoch    of the sale that is closed, decimal
--   2 keep_ms  how long the keys stay, decimal
-- Returns
--   'CLOSED'  also when it was before
--   'OTHER'   another epoch, or nothing, is there: nothing was done
-- Errors, all before the first write
--   KAIMAI <what is wrong>, WRONGTYPE, OOM, READONLY

if #KEYS ~= 6 then return redis.error_reply('KAIMAI close takes 6 keys') end
if #ARGV ~= 2 or not string.find(ARGV[2], '^[1-9]%d*$') then
  return redis.error_reply('KAIMAI close takes an epoch and a time in ms')
end
local meta = redis.call('HMGET', KEYS[1], 'epoch', 'ends_ms')
if meta[1] ~= ARGV[1] then return 'OTHER' end
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
if not meta[2] or meta[2] == '' or tonumber(meta[2]) > now_ms then
  redis.call('HSET', KEYS[1], 'ends_ms', string.format('%.0f', now_ms))
end
for i = 1, 6 do redis.call('PEXPIRE', KEYS[i], ARGV[2]) end
return 'CLOSED'
