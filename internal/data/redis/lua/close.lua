#!lua flags=allow-oom
-- close: ends a sale's admission for good. Its keys stay long enough for callers that have not heard of it yet.
--
-- Where this epoch is not loaded, a marker takes its place: a load of this epoch, or of an older one, that is under way
-- finds the marker and opens nothing.
--
-- It may run when Redis is full: a closed sale must not sell as soon as admission works again.
--
-- KEYS
--   1 meta          hash    seckill:<item_id>:meta
--   2 stock         string  seckill:<item_id>:stock
--   3 req           string  seckill:<item_id>:req
--   4 buyers        hash    seckill:<item_id>:buyers
--   5 vip           hash    seckill:<item_id>:vip
--   6 returned      set     seckill:<item_id>:returned
--   7 waiting_room  hash    seckill:<item_id>:line
--   8 tickets       zset    seckill:<item_id>:places
--   9 stream        stream  stream:seckill:<item_id>
--  10 broken        any     seckill:<item_id>:broken   what was found in place of the stream
-- ARGV
--   1 epoch           of the sale that is closed, decimal
--   2 keep_ms         how long the keys stay, decimal
--   3 keep_broken_ms  how long broken stays, decimal
-- Returns
--   'CLOSED'  also when it was before
--   'LATER'   a later epoch, that of the item's next sale, is here: nothing was done
-- Errors, all before the first write
--   KAIMAI <what is wrong>, READONLY

-- include: checks
-- include: clock
-- include: key_types
-- include: stream_ids
-- include: restore_stream

if #KEYS ~= 10 then return fault('close takes 10 keys') end
if #ARGV ~= 3 or not is_decimal(ARGV[1], 10) or not is_decimal(ARGV[2], 12) or not is_decimal(ARGV[3], 12) then
  return fault('close takes an epoch and two times in ms')
end
local meta = { false, false }
if type_of(KEYS[1]) == 'hash' then meta = redis.call('HMGET', KEYS[1], 'epoch', 'ends_ms') end
local there = tonumber(meta[1])
if there and there > tonumber(ARGV[1]) then return 'LATER' end

local now_ms = clock_ms()
local ends_ms = now_ms
if there == tonumber(ARGV[1]) then
  ends_ms = math.min(end_of_window(meta[2]) or now_ms, now_ms)
else
  redis.call('UNLINK', KEYS[1], KEYS[2], KEYS[3])
  redis.call('HSET', KEYS[1], 'epoch', ARGV[1])
end
redis.call('HSET', KEYS[1], 'closed', '1', 'ends_ms', string.format('%.0f', ends_ms))
-- No more tickets are drawn, and a waiting room can be large.
redis.call('UNLINK', KEYS[7], KEYS[8])
restore_stream(KEYS[9], KEYS[10], ARGV[3])
for i = 1, 6 do redis.call('PEXPIRE', KEYS[i], ARGV[2]) end
return 'CLOSED'
