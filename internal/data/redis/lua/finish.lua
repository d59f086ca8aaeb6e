#!lua flags=allow-oom
-- finish: takes entries whose outcome is committed off the stream, and squares the sale's stock with the outcomes.
--
-- An entry holds units of the stock when admit took them in this epoch, or when load counted it as waiting (its id is
-- not above meta's fence). What was refused gives them back. Deleting the entry is what makes this happen once: a second
-- call finds none. An order that held none pays now: somebody else added the entry, or the stream was lost after a
-- consumer had read it and before load counted what waits. Of the latter nothing is left to delete, so these are
-- remembered in `returned`.
-- PostgreSQL says SOLD_OUT only where the stock was too high: such units do not return, or the stock would stay so. For
-- the same reason the stock stops at 0 when an order pays that held none: one that waits will find itself sold out.
--
-- It may run when Redis is full, because it makes room.
--
-- KEYS
--   1 meta    hash    seckill:<item_id>:meta
--   2 stock   string  seckill:<item_id>:stock
--   3 buyers  hash    seckill:<item_id>:buyers
--   4 stream  stream  stream:seckill:<item_id>
--   5 returned  set   seckill:<item_id>:returned  ids of entries that paid, beside return_units' order ids
-- ARGV
--   1 group  the consumer group
--   2 n      how many entries change the stock, decimal
--   then for each of them
--     id           stream id
--     epoch        of the sale when the outcome was committed, decimal
--     entry_epoch  the entry's own epoch field; '' none
--     uid          UUID in lower case
--     qty          units the entry asks for of the sale, decimal
--     outcome      ORDER, REFUSED, or SOLD_OUT
--   then the stream ids of the entries that change nothing. 1 to 1000 entries in all
-- Returns
--   {id…}  the entries that must wait, since the sale's epoch is not loaded yet; all others are gone from the stream
-- Errors, all before the first write
--   KAIMAI <what is wrong>, WRONGTYPE, OOM, READONLY

local PER = 6
if #KEYS ~= 5 then return redis.error_reply('KAIMAI finish takes 5 keys') end
local n = string.find(ARGV[2] or '', '^%d+$') and tonumber(ARGV[2])
local gone_from = n and 3 + n * PER
if not n or gone_from - 1 > #ARGV or n + #ARGV - gone_from + 1 < 1 or n + #ARGV - gone_from + 1 > 1000 then
  return redis.error_reply('KAIMAI finish takes a group, a number, 6 arguments for each of that many entries, and ids, 1 to 1000 entries in all')
end
for i = 1, n do
  local a = 3 + (i - 1) * PER
  if not string.find(ARGV[a], '^%d+%-%d+$') then return redis.error_reply('KAIMAI entry ' .. i .. ' has no stream id') end
  local outcome = ARGV[a + 5]
  if not string.find(ARGV[a + 1], '^%d+$') or #ARGV[a + 3] ~= 36 or #ARGV[a + 4] > 9
    or not string.find(ARGV[a + 4], '^%d+$')
    or not (outcome == 'ORDER' or outcome == 'REFUSED' or outcome == 'SOLD_OUT') then
    return redis.error_reply('KAIMAI entry ' .. i .. ' does not say what became of it')
  end
end
for i = gone_from, #ARGV do
  if not string.find(ARGV[i], '^%d+%-%d+$') then return redis.error_reply('KAIMAI argument ' .. i .. ' is no stream id') end
end
redis.call('XLEN', KEYS[4])
redis.call('HLEN', KEYS[3])
redis.call('SCARD', KEYS[5])
local meta = redis.call('HMGET', KEYS[1], 'epoch', 'fence')
local there, fence = meta[1], meta[2] or '0-0'
local stock = redis.call('GET', KEYS[2])
if stock and not tonumber(stock) then return redis.error_reply('KAIMAI stock holds no number') end

-- Whether the decimal string a is below or at b: ids go up to 2^64, beyond what a double holds.
local function not_above(a, b)
  if #a ~= #b then return #a < #b end
  return a <= b
end
local function inside(id)
  local ms, seq = string.match(id, '^(%d+)%-(%d+)$')
  local fence_ms, fence_seq = string.match(fence, '^(%d+)%-(%d+)$')
  if ms == fence_ms then return not_above(seq, fence_seq) end
  return not_above(ms, fence_ms)
end

local waiting = {}
for i = 1, n do
  local a = 3 + (i - 1) * PER
  local id, epoch, entry_epoch, uid = ARGV[a], ARGV[a + 1], ARGV[a + 2], ARGV[a + 3]
  if not there or not stock or tonumber(there) < tonumber(epoch) then
    waiting[#waiting + 1] = id
  else
    redis.call('XACK', KEYS[4], ARGV[1], id)
    local removed = redis.call('XDEL', KEYS[4], id) == 1
    -- A later epoch counted its stock after this outcome was committed.
    if there == epoch then
      local qty, holds, keeps, outcome = tonumber(ARGV[a + 4]), 0, 0, ARGV[a + 5]
      if entry_epoch == there or inside(id) then holds = qty end
      if outcome == 'ORDER' then keeps = qty end
      local first = removed
      if holds < keeps then first = redis.call('SADD', KEYS[5], id) == 1 end
      if first and holds ~= keeps then
        if outcome ~= 'SOLD_OUT' and redis.call('INCRBY', KEYS[2], string.format('%.0f', holds - keeps)) < 0 then
          redis.call('SET', KEYS[2], '0')
        end
        if redis.call('HINCRBY', KEYS[3], uid, string.format('%.0f', keeps - holds)) <= 0 then
          redis.call('HDEL', KEYS[3], uid)
        end
      end
    end
  end
end
if gone_from <= #ARGV then
  redis.call('XACK', KEYS[4], ARGV[1], unpack(ARGV, gone_from))
  redis.call('XDEL', KEYS[4], unpack(ARGV, gone_from))
end
return waiting
