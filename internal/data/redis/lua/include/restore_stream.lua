-- Makes a stream usable again: a key of another type is set aside for keep_ms, and a stream that has used the greatest id
-- there is, so that it takes no further entry, is replaced once it is empty.
local function restore_stream(stream, broken, keep_ms)
  local found = type_of(stream)
  if found == 'stream' then
    if redis.call('XLEN', stream) == 0 and last_stream_id(stream) == LAST_STREAM_ID then redis.call('UNLINK', stream) end
  elseif found ~= 'none' then
    redis.call('RENAME', stream, broken)
    redis.call('PEXPIRE', broken, keep_ms)
  end
end
