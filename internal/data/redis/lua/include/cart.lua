-- Carts. `meta` says that Redis has all of a cart: without it, or with lines gone, the cart has to be loaded.
--   version  in microseconds since 1970; every change raises it      saved   the version that was last saved
--   lines    how many there are                                      taken   the last checkout whose lines have left
--   merged   '1': a guest cart that was merged into a user's
--   merges   guest carts merged into it and not saved as such yet: <id>:<expires ms>, with commas between
local QUANTITY_MAX = 10000
local function is_loaded(cart, meta, unsaved, due)
  drop_unless(cart, 'hash')
  drop_unless(meta, 'hash')
  if unsaved then
    drop_unless(unsaved, 'zset')
    drop_unless(due, 'zset')
  end
  local found = redis.call('HMGET', meta, 'version', 'lines')
  if not found[1] then return false end
  return found[2] == '0' or redis.call('EXISTS', cart) == 1
end
local function whole(n, low, high) return type(n) == 'number' and n >= low and n <= high and n == math.floor(n) end
-- A line as it is stored; nil: it cannot be read, which is as good as none.
local function line_of(text)
  if not text then return nil end
  local ok, line = pcall(cjson.decode, text)
  if not ok or type(line) ~= 'table' or not whole(line.qty, 1, QUANTITY_MAX) then return nil end
  if not whole(line.add_time, 0, 1e11) or type(line.selected) ~= 'boolean' then return nil end
  if line.price ~= nil and not whole(line.price, 0, 1e15) then line.price = nil end
  return line
end
local function text_of(line)
  local text = string.format('{"qty":%.0f,"add_time":%.0f,"selected":%s', line.qty, line.add_time, tostring(line.selected))
  if line.price then text = text .. string.format(',"price":%.0f', line.price) end
  return text .. '}'
end
-- Raises the version, and lists the cart as one to be saved in delay_ms. @returns the version
local function cart_changed(cart, meta, unsaved, due, name, delay_ms)
  local time = redis.call('TIME')
  local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
  local version = math.max(time[1] * 1000000 + time[2], tonumber(redis.call('HGET', meta, 'version') or 0) + 1)
  local text = string.format('%.0f', version)
  redis.call('HSET', meta, 'version', text, 'lines', redis.call('HLEN', cart))
  redis.call('PERSIST', cart)
  redis.call('PERSIST', meta)
  redis.call('ZADD', unsaved, 'NX', string.format('%.0f', now_ms), name)
  redis.call('ZADD', due, 'NX', string.format('%.0f', now_ms + delay_ms), name)
  return text
end
