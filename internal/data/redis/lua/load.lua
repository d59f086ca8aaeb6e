#!lua
-- load: puts a sale's state, as PostgreSQL has it, in place of whatever is there, and so opens admission.
--
-- KEYS
--   1 meta          hash    seckill:<item_id>:meta
--   2 stock         string  seckill:<item_id>:stock
--   3 req           string  seckill:<item_id>:req
--   4 buyers        hash    seckill:<item_id>:buyers
--   5 vip           hash    seckill:<item_id>:vip
--   6 returned      set     seckill:<item_id>:returned       orders and entries whose units were corrected in this epoch
--   7 next_buyers   hash    seckill:<item_id>:buyers:<epoch>  what buyers becomes; filled before, in as many steps as it takes
--   8 next_vip      hash    seckill:<item_id>:vip:<epoch>     what vip becomes
--   9 seen0         hash    seckill:<item_id>:seen:0          kept, unless its type is wrong; so are the next three
--  10 seen1         hash    seckill:<item_id>:seen:1
--  11 waiting_room  hash    seckill:<item_id>:line
--  12 tickets       zset    seckill:<item_id>:places
-- ARGV
--   1 epoch    decimal, below 2^31
--   2 req      where req_id starts (epoch << 32), decimal
--   3 buyers   fields that next_buyers must have, decimal
--   4 vip      fields that next_vip must have, decimal
--   5 stock    units to admit, decimal; below 0 where more units wait in the stream than are left
--   then field and value pairs of meta besides epoch and server
-- Returns
--   'LOADED'
--   'THERE'       this epoch was loaded before: it runs, so nothing is touched
--   'STALE'       a later epoch is here: nothing was done
--   'CLOSED'      the sale was closed while it was loaded: nothing was done
--   'INCOMPLETE'  next_buyers or next_vip has not what it should: nothing was done
-- Errors, all before the first write
--   KAIMAI <what is wrong>, WRONGTYPE, OOM, READONLY

-- include: checks
-- include: key_types
-- include: run_id

if #KEYS ~= 12 then return fault('load takes 12 keys') end
if #ARGV < 7 or #ARGV % 2 ~= 1 then return fault('load takes 5 arguments and pairs') end
for i = 1, 4 do
  if not is_decimal(ARGV[i], 19) then return fault('argument ' .. i .. ' is not a decimal') end
end
if not is_integer(ARGV[5]) then return fault('stock is not a decimal') end
local there, closed
if type_of(KEYS[1]) == 'hash' then
  local meta = redis.call('HMGET', KEYS[1], 'epoch', 'closed')
  there, closed = tonumber(meta[1]), meta[2]
end
if there and there > tonumber(ARGV[1]) then return 'STALE' end
if there == tonumber(ARGV[1]) then
  if closed then return 'CLOSED' end
  if redis.call('EXISTS', KEYS[2], KEYS[3]) == 2 then return 'THERE' end
end
if redis.call('HLEN', KEYS[7]) ~= tonumber(ARGV[3]) or redis.call('HLEN', KEYS[8]) ~= tonumber(ARGV[4]) then
  return 'INCOMPLETE'
end

-- UNLINK: freeing a million buyers in place would hold up all other calls.
redis.call('UNLINK', KEYS[1], KEYS[4], KEYS[5], KEYS[6])
for next, key in pairs({ [KEYS[7]] = KEYS[4], [KEYS[8]] = KEYS[5] }) do
  if redis.call('EXISTS', next) == 1 then
    redis.call('RENAME', next, key)
    redis.call('PERSIST', key)
  end
end
for i = 9, 11 do drop_unless(KEYS[i], 'hash') end
drop_unless(KEYS[12], 'zset')
redis.call('SET', KEYS[2], ARGV[5])
redis.call('SET', KEYS[3], ARGV[2])
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'server', run_id(), unpack(ARGV, 6))
return 'LOADED'
