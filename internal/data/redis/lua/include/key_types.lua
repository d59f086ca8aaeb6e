-- Keys of the wrong type: another program wrote them, so their contents are lost.
local function type_of(key) return redis.call('TYPE', key).ok end
local function drop_unless(key, wanted)
  local found = type_of(key)
  if found ~= wanted and found ~= 'none' then redis.call('UNLINK', key) end
end
