-- A key that is made after the sale was closed expires with the sale's meta.
local function expire_with(meta, key)
  local left_ms = redis.call('PTTL', meta)
  if left_ms > 0 then redis.call('PEXPIRE', key, string.format('%.0f', left_ms)) end
end
