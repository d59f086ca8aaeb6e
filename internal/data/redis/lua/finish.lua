#!lua flags=allow-oom
-- finish: takes entries whose outcome is committed off the stream, and corrects the sale's stock by their outcomes.
--
-- An entry holds units of the stock when admit took them in this epoch, or when load counted it as waiting: its id lies
-- between meta's fence_from and fence. An entry that was refused gives back what it held. An order of an entry that held
-- nothing pays now: another program added the entry, or the stream was lost after a consumer had read it and before load
-- counted what waits. So "stock + units held by entries + units of live orders" stays the total, also where the stock goes
-- below 0: then more was ordered than admission knew of, and entries that wait will find the sale sold out and give back
-- what they hold. A user's count may be below 0, too: an order of an entry that held nothing may be cancelled before the
-- entry is finished.
--
-- Corrected entries are remembered in `returned`, so that a correction happens once, whether or not the stream still has
-- the entry.
--
-- After a failover to a server that missed the last entries and whose clock is behind, an id may have been given again. So
-- an entry is its id and its uid: the entry of another user stays, and its correction is another one.
--
-- It may run when Redis is full, because it makes room.
--
-- KEYS
--   1 meta      hash    seckill:<item_id>:meta
--   2 stock     string  seckill:<item_id>:stock
--   3 buyers    hash    seckill:<item_id>:buyers
--   4 stream    stream  stream:seckill:<item_id>
--   5 returned  set     seckill:<item_id>:returned  id and uid of corrected entries, beside the order ids of return_units
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
--     entry_uid    the entry's own uid field; '' unknown: any entry with the id is meant
--   then id and entry_uid of the entries that change nothing. 1 to 1000 entries in all
-- Returns
--   {id…}  the entries that must wait, since the sale's epoch is not loaded yet; all others are gone from the stream
-- Errors, all before the first write
--   KAIMAI <what is wrong>, WRONGTYPE, READONLY

-- include: checks
-- include: expire_with
-- include: stream_ids

local PER = 7
if #KEYS ~= 5 then return fault('finish takes 5 keys') end
local n = is_decimal(ARGV[2] or '', 4) and tonumber(ARGV[2])
local gone_from = n and 3 + n * PER
local others = n and (#ARGV - gone_from + 1) / 2
if not n or others < 0 or others ~= math.floor(others) or n + others < 1 or n + others > 1000 then
  return fault('finish takes a group, a number, 7 arguments for each of that many entries, 2 for each other one, 1 to 1000 in all')
end
for i = 1, n do
  local a = 3 + (i - 1) * PER
  if not is_stream_id(ARGV[a]) then return fault('entry ' .. i .. ' has no stream id') end
  if not is_decimal(ARGV[a + 1], 10) or not is_uuid(ARGV[a + 3]) or not is_decimal(ARGV[a + 4], 9)
    or not (ARGV[a + 5] == 'ORDER' or ARGV[a + 5] == 'REFUSED') then
    return fault('entry ' .. i .. ' does not say what became of it')
  end
end
for i = gone_from, #ARGV, 2 do
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
  if has ~= 0 then
    redis.call('HSET', KEYS[3], uid, string.format('%.0f', has))
  else
    redis.call('HDEL', KEYS[3], uid)
  end
end

-- The uid fields of entries by id; false: without one. A batch mostly is a span of the stream, and reading it at once takes
-- 2 µs for each entry instead of 7.
local uids = {}
local function look(first, last, count)
  local entries = redis.call('XRANGE', KEYS[4], first, last, 'COUNT', count)
  for i = 1, #entries do
    local id, fields = entries[i][1], entries[i][2]
    uids[id] = false
    for f = 1, #fields, 2 do
      if fields[f] == 'uid' then uids[id] = fields[f + 1] end
    end
  end
end
if n > 0 then look(ARGV[3], ARGV[3 + (n - 1) * PER], n) end
if others > 0 then look(ARGV[gone_from], ARGV[#ARGV - 1], others) end

-- Whether the stream has another user's entry under this id.
local function is_anothers(id, uid)
  if uid == '' then return false end
  if uids[id] == nil then look(id, id, 1) end
  return uids[id] ~= nil and uids[id] ~= uid
end
local gone = {}
local function take_off(id, uid)
  if not is_anothers(id, uid) then gone[#gone + 1] = id end
end

local waiting = {}
local corrected = false
for i = 1, n do
  local a = 3 + (i - 1) * PER
  local id, epoch, entry_epoch, uid, qty = ARGV[a], ARGV[a + 1], ARGV[a + 2], ARGV[a + 3], tonumber(ARGV[a + 4])
  if not there or not stock or tonumber(there) < tonumber(epoch) then
    waiting[#waiting + 1] = id
  else
    take_off(id, ARGV[a + 6])
    -- A later epoch counted its stock after this outcome was committed.
    if there == epoch then
      local holds, keeps = 0, 0
      if entry_epoch == there or was_counted(id) then holds = qty end
      if ARGV[a + 5] == 'ORDER' then keeps = qty end
      if holds ~= keeps and redis.call('SADD', KEYS[5], id .. ' ' .. ARGV[a + 6]) == 1 then
        redis.call('INCRBY', KEYS[2], string.format('%.0f', holds - keeps))
        change_units(uid, keeps - holds)
        corrected = true
      end
    end
  end
end
for i = gone_from, #ARGV, 2 do take_off(ARGV[i], ARGV[i + 1]) end
if corrected then
  expire_with(KEYS[1], KEYS[3])
  expire_with(KEYS[1], KEYS[5])
end
if #gone > 0 then
  redis.call('XACK', KEYS[4], ARGV[1], unpack(gone))
  redis.call('XDEL', KEYS[4], unpack(gone))
end
return waiting
