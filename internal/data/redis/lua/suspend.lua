#!lua
-- suspend: stops the admission of a sale that is about to be loaded, and makes sure that its stream can be read and
-- written. A key of another type is set aside, and a stream that can take no further entry is replaced once it is empty.
--
-- KEYS
--   1 meta     hash    seckill:<item_id>:meta     a marker of close stays
--   2 loading  string  seckill:<item_id>:loading  the caller's lease
--   3 stream   stream  stream:seckill:<item_id>
--   4 broken   any     seckill:<item_id>:broken   what was found in place of the stream
-- ARGV
--   1 token    of the lease
--   2 keep_ms  how long broken stays, decimal
-- Returns
--   'SUSPENDED'
--   'LOST'  the lease is not the caller's: nothing was done
-- Errors, all before the first write
--   KAIMAI <what is wrong>, OOM, READONLY

-- include: checks
-- include: key_types
-- include: stream_ids
-- include: restore_stream

if #KEYS ~= 4 or #ARGV ~= 2 then return fault('suspend takes 4 keys and 2 arguments') end
if not is_decimal(ARGV[2], 12) then return fault('keep_ms is not a decimal') end
if type_of(KEYS[2]) ~= 'string' or redis.call('GET', KEYS[2]) ~= ARGV[1] then return 'LOST' end

if type_of(KEYS[1]) ~= 'hash' or not redis.call('HGET', KEYS[1], 'closed') then redis.call('UNLINK', KEYS[1]) end
restore_stream(KEYS[3], KEYS[4], ARGV[2])
return 'SUSPENDED'
