#!lua flags=allow-oom
-- finish: takes entries whose outcome is committed off the stream, and corrects the sale's stock by their outcomes.
--
-- An entry holds units of the stock when admit took them in this epoch, or when load counted it as waiting: its id lies
-- between meta's fence_from and fence. An entry that was refused gives back what it held. An order of an entry that held
-- nothing pays now: another program added the entry, or the stream was lost after a consumer had read it and before load
-- counted what waits. So "stock + units held by entries + units of live orders" stays the total, also where the stock goes
-- below 0: then more was ordered than admission knew of, and entries that wait will find the sale sold out and give back
-- what they hold.
--
-- Corrected entries are remembered in `returned`, so that a correction happens once, whether or not the stream still has
-- the entry.
--
-- It may run when Redis is full, because it makes room.
--
-- KEYS
--   1 meta      hash    seckill:<item_id>:meta
--   2 stock     string  seckill:<item_id>:stock
--   3 buyers    hash    seckill:<item_id>:buyers
--   4 stream    stream  stream:seckill:<item_id>
--   5 returned  set     seckill:<item_id>:returned  ids of corrected entries, beside the order ids of return_units
-- ARGV
--   1 group  the consumer group
--   2 n      how many entries may change the stock, decimal
--   then for each of them
--     id           stream id
--     epoch        of the sale when the outcome was committed, decimal
--     entry_epoch  the entry's own epoch field; '' none
--     uid          UUID in lower case
--     qty          units the entry asks for of the sale, decimal
--     outcome      ORDER or REFUSED
--   then the stream ids of the entries that change nothing. 1 to 1000 entries in all
-- Returns
--   {id…}  the entries that must wait, since the sale's epoch is not loaded yet; all others are gone from the stream
-- Errors, all before the first write
--   KAIMAI <what is wrong>, WRONGTYPE, READONLY

-- include: checks
-- include: stream_ids

local PER = 6
if #KEYS ~= 5 then return fault('finish takes 5 keys') end
local n = is_decimal(ARGV[2] or '', 4) and tonumber(ARGV[2])
local gone_from = n and 3 + n * PER
if not n or gone_from - 1 > #ARGV or n + #ARGV - gone_from + 1 < 1 or n + #ARGV - gone_from + 1 > 1000 then
  return fault('finish takes a group, a number, 6 arguments for each of that many entries, and ids, 1 to 1000 entries in all')
end
for i = 1, n do
  local a = 3 + (i - 1) * PER
  if not is_stream_id(ARGV[a]) then return fault('entry ' .. i .. ' has no stream id') end
  if not is_decimal(ARGV[a + 1], 10) or not is_uuid(ARGV[a + 3]) or not is_decimal(ARGV[a + 4], 9)
    or not (ARGV[a + 5] == 'ORDER' or ARGV[a + 5] == 'REFUSED') then
    return fault('entry ' .. i .. ' does not say what became of it')
  end
end
for i = gone_from, #ARGV do
  if not is_stream_id(ARGV[i]) then return fault('argument ' .. i .. ' is not a stream id') end
end
redis.call('XLEN', KEYS[4])
redis.call('HLEN', KEYS[3])
redis.call('SCARD', KEYS[5])
local meta = redis.call('HMGET', KEYS[1], 'epoch', 'fence_from', 'fence')
local there, fence_from, fence = meta[1], meta[2] or '0-0', meta[3] or '0-0'
local stock = redis.call('GET', KEYS[2])
if (stock and not is_integer(stock)) or (there and not is_decimal(there, 10)) then
  return unreadable('epoch or stock holds no number')
end

local function was_counted(id) return id_not_above(fence_from, id) and id_not_above(id, fence) end
-- A count that is not a number is taken for none: what is wrong with one user must not stop the others' entries.
local function change_units(uid, units)
  local has = (tonumber(redis.call('HGET', KEYS[3], uid)) or 0) + units
  if has > 0 then
    redis.call('HSET', KEYS[3], uid, string.format('%.0f', has))
  else
    redis.call('HDEL', KEYS[3], uid)
  end
end

local waiting = {}
for i = 1, n do
  local a = 3 + (i - 1) * PER
  local id, epoch, entry_epoch, uid, qty = ARGV[a], ARGV[a + 1], ARGV[a + 2], ARGV[a + 3], tonumber(ARGV[a + 4])
  if not there or not stock or tonumber(there) < tonumber(epoch) then
    waiting[#waiting + 1] = id
  else
    redis.call('XACK', KEYS[4], ARGV[1], id)
    redis.call('XDEL', KEYS[4], id)
    -- A later epoch counted its stock after this outcome was committed.
    if there == epoch then
      local holds, keeps = 0, 0
      if entry_epoch == there or was_counted(id) then holds = qty end
      if ARGV[a + 5] == 'ORDER' then keeps = qty end
      if holds ~= keeps and redis.call('SADD', KEYS[5], id) == 1 then
        redis.call('INCRBY', KEYS[2], string.format('%.0f', holds - keeps))
        change_units(uid, keeps - holds)
      end
    end
  end
end
if gone_from <= #ARGV then
  redis.call('XACK', KEYS[4], ARGV[1], unpack(ARGV, gone_from))
  redis.call('XDEL', KEYS[4], unpack(ARGV, gone_from))
end
return waiting
