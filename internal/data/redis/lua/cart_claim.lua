#!lua flags=allow-oom
-- cart_claim: claims carts that are due to be saved, so that no other saver does so for a while.
--
-- KEYS
--   1 unsaved  zset  cart:unsaved  name -> since when, ms
--   2 due      zset  cart:due      name -> when to save it, ms
-- ARGV
--   1 limit     of names, decimal
--   2 lease_ms  when they are due again, from now, decimal
-- Returns
--   {name, …}  the longest waiting first
-- Errors, all before the first write
--   KAIMAI <what is wrong>, READONLY

-- include: checks
-- include: key_types
-- include: clock

if #KEYS ~= 2 or #ARGV ~= 2 then return fault('cart_claim takes 2 keys and 2 arguments') end
for i = 1, 2 do
  if not is_decimal(ARGV[i], 10) then return fault('argument ' .. i .. ' is not a decimal') end
end
local now_ms = clock_ms()
drop_unless(KEYS[1], 'zset')
drop_unless(KEYS[2], 'zset')
if redis.call('ZCARD', KEYS[2]) < redis.call('ZCARD', KEYS[1]) then
  -- Carts that were lost from `due` are found again here, the longest waiting first.
  for _, name in ipairs(redis.call('ZRANGE', KEYS[1], 0, ARGV[1] - 1)) do
    redis.call('ZADD', KEYS[2], 'NX', string.format('%.0f', now_ms), name)
  end
end
local names = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', now_ms), 'LIMIT', 0, ARGV[1])
local again = string.format('%.0f', now_ms + tonumber(ARGV[2]))
for _, name in ipairs(names) do redis.call('ZADD', KEYS[2], 'XX', again, name) end
return names
