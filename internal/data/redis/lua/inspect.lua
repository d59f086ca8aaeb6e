#!lua flags=no-writes
-- inspect: what admission holds of an item, at one moment.
--
-- KEYS
--   1 meta          hash    seckill:<item_id>:meta
--   2 stock         string  seckill:<item_id>:stock
--   3 req           string  seckill:<item_id>:req
--   4 buyers        hash    seckill:<item_id>:buyers
--   5 vip           hash    seckill:<item_id>:vip
--   6 stream        stream  stream:seckill:<item_id>
--   7 returned      set     seckill:<item_id>:returned
--   8 seen0         hash    seckill:<item_id>:seen:0
--   9 seen1         hash    seckill:<item_id>:seen:1
--  10 waiting_room  hash    seckill:<item_id>:line
--  11 tickets       zset    seckill:<item_id>:places
-- ARGV
--   none
-- Returns
--   {now_ms, unreadable, epoch, sale_id, version, starts_ms, ends_ms, limit, admit_rate, closed, fence_from, fence, server,
--    total, run_id, stock, req, returned, buyers, backlog, last_id}
--   all text besides now_ms; '' where there is none. unreadable: names of keys that hold something else than they should,
--   parted by spaces. run_id is this server's. returned, buyers and backlog are numbers of elements, last_id is the stream's last generated id
-- Errors
--   KAIMAI <what is wrong>

-- include: checks
-- include: clock
-- include: key_types
-- include: run_id
-- include: stream_ids

if #KEYS ~= 11 or #ARGV ~= 0 then return fault('inspect takes 11 keys') end
local EXPECTED = {
  { 'meta', 'hash' }, { 'stock', 'string' }, { 'req', 'string' }, { 'buyers', 'hash' }, { 'vip', 'hash' },
  { 'stream', 'stream' }, { 'returned', 'set' }, { 'seen0', 'hash' }, { 'seen1', 'hash' }, { 'waiting_room', 'hash' },
  { 'tickets', 'zset' },
}
local there, wrong = {}, {}
for i, expected in ipairs(EXPECTED) do
  local found = type_of(KEYS[i])
  if found == expected[2] then
    there[expected[1]] = KEYS[i]
  elseif found ~= 'none' then
    wrong[#wrong + 1] = expected[1]
  end
end
local function text(value) return value and tostring(value) or '' end
local function ask(command, name, ...)
  if not there[name] then return '' end
  return text(redis.call(command, there[name], ...))
end

local fields = { 'epoch', 'sale_id', 'version', 'starts_ms', 'ends_ms', 'limit', 'admit_rate', 'closed', 'fence_from',
  'fence', 'server', 'total' }
local meta = there.meta and redis.call('HMGET', there.meta, unpack(fields)) or {}
local values = {}
for i = 1, #fields do values[i] = text(meta[i]) end
local stock, req = ask('GET', 'stock'), ask('GET', 'req')
local function unless(good, name)
  if not good then wrong[#wrong + 1] = name end
end
unless(stock == '' or is_integer(stock), 'stock')
unless(req == '' or is_decimal(req, 19), 'req')
-- A marker of close has an epoch and an end; a loaded sale has all of the numbers.
local numbers = values[8] == '1' and 1 or 7
for i = 1, numbers do
  local is_absent_end = i == 5 and values[i] == ''
  unless(not there.meta or is_absent_end or is_integer(values[i]) or (i == 2 and is_decimal(values[i], 19)), 'meta')
end
for _, i in ipairs({ 9, 10 }) do unless(values[i] == '' or is_stream_id(values[i]), 'meta') end
unless(values[12] == '' or is_decimal(values[12], 15), 'meta')

return { clock_ms(), table.concat(wrong, ' '), values[1], values[2], values[3], values[4], values[5], values[6], values[7],
  values[8], values[9], values[10], values[11], values[12], run_id(), stock, req, ask('SCARD', 'returned'), ask('HLEN', 'buyers'),
  ask('XLEN', 'stream'), there.stream and last_stream_id(there.stream) or '' }
