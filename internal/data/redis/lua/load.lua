#!lua
-- load: puts a sale's state, as PostgreSQL has it, in place of whatever is there, and so opens admission.
--
-- KEYS
--   1 meta         hash    seckill:<item_id>:meta
--   2 stock        string  seckill:<item_id>:stock
--   3 req          string  seckill:<item_id>:req
--   4 buyers       hash    seckill:<item_id>:buyers
--   5 vip          hash    seckill:<item_id>:vip
--   6 returned     set     seckill:<item_id>:returned       order ids whose units were given back in this epoch
--   7 next_buyers  hash    seckill:<item_id>:buyers:<epoch>  what buyers becomes; filled before, in as many steps as it takes
--   8 next_vip     hash    seckill:<item_id>:vip:<epoch>     what vip becomes
-- ARGV
--   1 epoch    decimal, below 2^31
--   2 stock    units to admit, decimal
--   3 req      where req_id starts (epoch << 32), decimal
--   4 buyers   fields that next_buyers must have, decimal
--   5 vip      fields that next_vip must have, decimal
--   then field and value pairs of meta besides epoch
-- Returns
--   'LOADED'
--   'THERE'       this epoch was loaded before: it runs, so nothing is touched
--   'STALE'       a later epoch is there: nothing was done
--   'INCOMPLETE'  next_buyers or next_vip has not what it should: nothing was done
-- Errors, all before the first write
--   KAIMAI <what is wrong>, WRONGTYPE, OOM, READONLY

if #KEYS ~= 8 then return redis.error_reply('KAIMAI load takes 8 keys') end
if #ARGV < 7 or #ARGV % 2 ~= 1 then return redis.error_reply('KAIMAI load takes 5 arguments and pairs') end
for i = 1, 5 do
  if not string.find(ARGV[i], '^%d+$') then return redis.error_reply('KAIMAI argument ' .. i .. ' is no decimal') end
end
local there = redis.call('HGET', KEYS[1], 'epoch')
if there == ARGV[1] and redis.call('EXISTS', KEYS[2], KEYS[3]) == 2 then return 'THERE' end
if there and tonumber(there) > tonumber(ARGV[1]) then return 'STALE' end
if redis.call('HLEN', KEYS[7]) ~= tonumber(ARGV[4]) or redis.call('HLEN', KEYS[8]) ~= tonumber(ARGV[5]) then
  return 'INCOMPLETE'
end

-- UNLINK: freeing a million buyers in place would hold up everybody else.
redis.call('UNLINK', KEYS[1], KEYS[4], KEYS[5], KEYS[6])
for next, key in pairs({ [KEYS[7]] = KEYS[4], [KEYS[8]] = KEYS[5] }) do
  if redis.call('EXISTS', next) == 1 then
    redis.call('RENAME', next, key)
    redis.call('PERSIST', key)
  end
end
redis.call('SET', KEYS[2], ARGV[2])
redis.call('SET', KEYS[3], ARGV[3])
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], unpack(ARGV, 6))
return 'LOADED'
