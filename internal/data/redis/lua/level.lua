#!lua flags=no-writes
-- level: the units of a segment, and the moves of units that began there and whose end is not noted.
--
-- KEYS
--   1 meta   hash    seckill:<item_id>:meta
--   2 stock  string  seckill:<item_id>:stock
-- ARGV
--   none
-- Returns
--   {epoch, stock, moved_in, then id and '<segment> <units>' of each move}
--   all text; epoch is '' where nothing is loaded or the sale is closed. moved_in: how many moves have arrived here
-- Errors
--   KAIMAI <what is wrong>, WRONGTYPE

-- include: checks

if #KEYS ~= 2 or #ARGV ~= 0 then return fault('level takes 2 keys') end
local stock = redis.call('GET', KEYS[2])
local fields = redis.call('HGETALL', KEYS[1])
local meta, moves = {}, {}
for i = 1, #fields, 2 do
  local id = string.match(fields[i], '^move:(.+)$')
  if id then
    moves[#moves + 1] = id
    moves[#moves + 1] = fields[i + 1]
  else
    meta[fields[i]] = fields[i + 1]
  end
end
if stock and not is_integer(stock) then return unreadable('stock holds no number') end
if not meta.epoch or not stock or meta.closed then return { '', '0', '0' } end
local reply = { meta.epoch, stock, meta.moved_in or '0' }
for i = 1, #moves do reply[#reply + 1] = moves[i] end
return reply
