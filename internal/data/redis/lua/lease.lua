#!lua
-- lease: takes, renews or releases the right to load a sale. Its holder renews it while it works; one that dies loses it
-- within seconds. A holder whose reply was lost takes it again at once.
--
-- KEYS
--   1 loading  string  seckill:<item_id>:loading  the holder's token
-- ARGV
--   1 token   of the caller
--   2 ttl_ms  how long the lease lasts, decimal; 0: it is released
-- Returns
--   'HELD'      it is the caller's now
--   'RELEASED'  also when it had lapsed
--   'OTHER'     another holder has it: nothing was done
-- Errors, all before the first write
--   KAIMAI <what is wrong>, OOM, READONLY

-- include: checks
-- include: key_types

if #KEYS ~= 1 or #ARGV ~= 2 then return fault('lease takes 1 key and 2 arguments') end
if ARGV[1] == '' or not is_decimal(ARGV[2], 9) then return fault('lease takes a token and a time in ms') end
drop_unless(KEYS[1], 'string')
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 'OTHER' end

if ARGV[2] == '0' then
  redis.call('DEL', KEYS[1])
  return 'RELEASED'
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 'HELD'
