#!lua
-- stock_gate: publishes the free units of a SKU, unless a newer value is there.
--
-- KEYS
--   1 gate  hash  stock:sku:<sku_id>
-- ARGV
--   1 free    units, decimal
--   2 seq     the SKU's stock_seq, decimal: the higher value is the newer one
--   3 ttl_ms  how long the copy may be believed, decimal
-- Returns
--   'SET'
--   'OLDER'  a newer value is there: nothing was done
-- Errors, all before the first write
--   KAIMAI <what is wrong>, OOM, READONLY

-- include: checks
-- include: key_types

if #KEYS ~= 1 or #ARGV ~= 3 then return fault('stock_gate takes 1 key and 3 arguments') end
for i = 1, 3 do
  if not is_decimal(ARGV[i], 19) then return fault('argument ' .. i .. ' is not a decimal') end
end

-- A key of another type holds nothing of ours; it must not keep the gate from healing.
drop_unless(KEYS[1], 'hash')
local seq = redis.call('HGET', KEYS[1], 'seq')
-- As text: a Lua number loses digits above 2^53.
if seq and (#seq > #ARGV[2] or (#seq == #ARGV[2] and seq >= ARGV[2])) then
  -- The same value again proves that the copy is still right.
  if seq == ARGV[2] then redis.call('PEXPIRE', KEYS[1], ARGV[3]) end
  return 'OLDER'
end

redis.call('HSET', KEYS[1], 'free', ARGV[1], 'seq', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 'SET'
