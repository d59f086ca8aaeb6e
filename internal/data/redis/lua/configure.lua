#!lua flags=allow-oom
-- configure: brings the settings of a running sale from one version to a later one.
--
-- The versions are those of PostgreSQL's sales.settings_version. A caller reads the version that is here, and sends what
-- has changed since; of two callers that start from the same version the second is refused and looks again. So the last
-- value stays, whatever the order of the calls.
--
-- It may run when Redis is full: a lowered limit must hold as soon as admission works again.
--
-- KEYS
--   1 meta   hash    seckill:<item_id>:meta
--   2 stock  string  seckill:<item_id>:stock
--   3 vip    hash    seckill:<item_id>:vip
-- ARGV
--   1 epoch   of the sale, decimal
--   2 from    settings version that the caller found here, decimal
--   3 to      settings version of what follows, decimal, not below from
--   4 total   units for sale in all, decimal; stock changes by its difference to the total that is here
--   5 ends    end of the window in epoch ms, decimal; '' never
--   6 limit   default limit, decimal
--   7 rate    users admitted by the waiting room each second, decimal; 0: no waiting room
--   then for each VIP limit that changed, 0 to 1000 of them:
--     uid    UUID in lower case
--     units  decimal
-- Returns
--   'APPLIED'
--   'OTHER'  another epoch or version, or nothing, is here: nothing was done
-- Errors, all before the first write
--   KAIMAI <what is wrong>, WRONGTYPE, READONLY

-- include: checks

if #KEYS ~= 3 then return fault('configure takes 3 keys') end
if #ARGV < 7 or #ARGV > 2007 or #ARGV % 2 ~= 1 then
  return fault('configure takes 7 arguments and up to 1000 pairs')
end
for i = 1, 3 do
  if not is_decimal(ARGV[i], 19) then return fault('argument ' .. i .. ' is not a decimal') end
end
if not is_decimal(ARGV[4], 15) then return fault('total is not a decimal of at most 15 digits') end
if ARGV[5] ~= '' and not is_decimal(ARGV[5], 15) then return fault('ends is not a time') end
for i = 6, 7 do
  if not is_decimal(ARGV[i], 9) then return fault('argument ' .. i .. ' is not a decimal of at most 9 digits') end
end
for i = 8, #ARGV, 2 do
  if not is_uuid(ARGV[i]) or not is_decimal(ARGV[i + 1], 9) then
    return fault('argument ' .. i .. ' and the next are not a user and units')
  end
end
redis.call('HLEN', KEYS[3])
local stock = redis.call('GET', KEYS[2])
local meta = redis.call('HMGET', KEYS[1], 'epoch', 'version', 'total')
if meta[1] ~= ARGV[1] or meta[2] ~= ARGV[2] or not stock then return 'OTHER' end
if not (is_integer(stock) and meta[3] and is_decimal(meta[3], 15)) then return unreadable('stock or total holds no number') end

if #ARGV > 7 then redis.call('HSET', KEYS[3], unpack(ARGV, 8)) end
local more = tonumber(ARGV[4]) - tonumber(meta[3])
if more ~= 0 then redis.call('INCRBY', KEYS[2], string.format('%.0f', more)) end
redis.call('HSET', KEYS[1], 'version', ARGV[3], 'total', ARGV[4], 'ends_ms', ARGV[5], 'limit', ARGV[6],
  'admit_rate', ARGV[7])
return 'APPLIED'
