#!lua flags=allow-oom
-- cart_saved: notes that a cart was saved. One that has changed since stays listed.
--
-- KEYS
--   1 cart     hash  cart:<name>       sku id -> {"qty":2,"add_time":<s>,"selected":true,"price":<fen>}
--   2 meta     hash  cart:<name>:meta  version, saved, lines, taken, merged, merges
--   3 unsaved  zset  cart:unsaved      name -> since when, ms
--   4 due      zset  cart:due          name -> when to save it, ms
-- ARGV
--   1 name      <user_id> or guest:<token>
--   2 delay_ms  when to save it again if it has changed, from now, decimal
--   3 ttl_ms    how long it lives untouched, decimal
--   4 version   that was saved, decimal
--   5 merges    that were saved with it
--   6 higher    '1': what is saved has this version and is not the cart's, whose version is to be raised above it
-- Returns
--   {'SAVED'}
--   {'CHANGED'}  it has changed since
--   {'GONE'}     there is no such cart any more
-- Errors, all before the first write
--   KAIMAI <what is wrong>, READONLY

-- include: checks
-- include: key_types
-- include: clock
-- include: cart

if #KEYS ~= 4 or #ARGV ~= 6 then return fault('cart_saved takes 4 keys and 6 arguments') end
for i = 2, 4 do
  if not is_decimal(ARGV[i], 19) then return fault('argument ' .. i .. ' is not a decimal') end
end
if not is_loaded(KEYS[1], KEYS[2], KEYS[3], KEYS[4]) then
  redis.call('ZREM', KEYS[3], ARGV[1])
  redis.call('ZREM', KEYS[4], ARGV[1])
  return { 'GONE' }
end
local meta = redis.call('HMGET', KEYS[2], 'version', 'merges')
if ARGV[6] == '1' then
  if tonumber(meta[1]) <= tonumber(ARGV[4]) then redis.call('HSET', KEYS[2], 'version', ARGV[4]) end
  redis.call('ZREM', KEYS[4], ARGV[1])
  cart_changed(KEYS[1], KEYS[2], KEYS[3], KEYS[4], ARGV[1], 0)
  return { 'CHANGED' }
end
redis.call('HSET', KEYS[2], 'saved', ARGV[4])
if ARGV[5] ~= '' and meta[2] and string.sub(meta[2], 1, #ARGV[5]) == ARGV[5] then
  -- Later merges were appended, after a comma.
  redis.call('HSET', KEYS[2], 'merges', string.sub(meta[2], #ARGV[5] + 2))
end
if meta[1] == ARGV[4] then
  redis.call('ZREM', KEYS[3], ARGV[1])
  redis.call('ZREM', KEYS[4], ARGV[1])
  -- A merged guest cart stays as long as its token.
  if redis.call('HGET', KEYS[2], 'merged') ~= '1' then
    redis.call('PEXPIRE', KEYS[1], ARGV[3])
    redis.call('PEXPIRE', KEYS[2], ARGV[3])
  end
  return { 'SAVED' }
end
local now_ms = clock_ms()
redis.call('ZADD', KEYS[3], 'XX', string.format('%.0f', now_ms), ARGV[1])
redis.call('ZADD', KEYS[4], 'XX', string.format('%.0f', now_ms + tonumber(ARGV[2])), ARGV[1])
return { 'CHANGED' }
