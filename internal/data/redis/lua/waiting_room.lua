#!lua
-- waiting_room: lets one user of a running sale in, or gives a place in the sale's line and tells how far it is.
--
-- A place is a ticket: 0, 1, 2 … in the order of arrival. The clock calls them, `rate` each second, whoever is there to
-- hear it, so that nobody who left holds up the others and nothing has to run beside. Ticket t is called at
-- at + (t - base) * 1000 / rate. Another rate sets base to where the clock stands, so that the order stays. While nobody
-- waits the clock goes on, and the next arrival takes the ticket that it is at. A turn lasts turn_ms from its call; who
-- comes later gets a new place at the end.
--
-- KEYS
--   1 meta    hash    seckill:<item_id>:meta    epoch, sale_id, starts_ms, ends_ms ('' never), admit_rate ('0' no line)
--   2 stock   string  seckill:<item_id>:stock   units left to admit
--   3 waiting_room hash seckill:<item_id>:line    sale_id, id, next (ticket), rate, base, at (ms); old_*: before the last change
--   4 tickets zset    seckill:<item_id>:places  user -> ticket
-- ARGV
--   1 epoch    of the sale as the caller knows it, decimal
--   2 uid      UUID in lower case
--   3 turn_ms  how long a turn lasts, decimal
--   4 limit    users who may wait, decimal
-- Returns
--   {'UNAVAILABLE'}  the epoch is another, or a key is missing: nothing was done. Ask for the sale again, then try again
--   {outcome, now_ms, place, until_ms, ahead, wait_ms}, outcome one of
--     'READY'    the user is let in until until_ms; place names the turn, '' where the sale has no line
--     'WAITING'  ahead users are called before, and the user in wait_ms at this rate
--     'NOT_STARTED' 'ENDED' 'SOLD_OUT'
--     'FULL'     limit users wait already
-- Errors, all before the first write
--   KAIMAI <what is wrong>, WRONGTYPE, OOM, READONLY

local DAY_MS = 86400000
if #KEYS ~= 4 or #ARGV ~= 4 then return redis.error_reply('KAIMAI waiting_room takes 4 keys and 4 arguments') end
local uid = ARGV[2]
if #uid ~= 36 or not string.find(uid, '^[0-9a-f]+%-[0-9a-f]+%-[0-9a-f]+%-[0-9a-f]+%-[0-9a-f]+$') then
  return redis.error_reply('KAIMAI uid is no UUID in lower case')
end
for i = 3, 4 do
  if #ARGV[i] > 12 or not string.find(ARGV[i], '^[1-9]%d*$') then
    return redis.error_reply('KAIMAI argument ' .. i .. ' is no decimal')
  end
end
local turn_ms, limit = tonumber(ARGV[3]), tonumber(ARGV[4])
local meta = redis.call('HMGET', KEYS[1], 'epoch', 'sale_id', 'starts_ms', 'ends_ms', 'admit_rate')
local stock_text = redis.call('GET', KEYS[2])
if meta[1] ~= ARGV[1] or not stock_text then return { 'UNAVAILABLE' } end
local sale_id, starts_ms, rate, stock = meta[2], tonumber(meta[3]), tonumber(meta[5] or 0), tonumber(stock_text)
local ends_ms = math.huge
if meta[4] ~= '' then ends_ms = tonumber(meta[4]) end
if not (sale_id and starts_ms and ends_ms and rate and stock) then
  return redis.error_reply('KAIMAI meta or stock holds no number')
end
local line = redis.call('HMGET', KEYS[3], 'sale_id', 'id', 'next', 'rate', 'base', 'at', 'old_rate', 'old_base', 'old_at')
local ticket = tonumber(redis.call('ZSCORE', KEYS[4], uid) or nil)
local oldest = redis.call('ZRANGE', KEYS[4], 0, 3, 'WITHSCORES')
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)

local function answer(outcome, place, until_ms, ahead, wait_ms)
  return { outcome, now_ms, place or '', until_ms or 0, ahead or 0, wait_ms or 0 }
end
if now_ms >= ends_ms then return answer('ENDED') end
if stock <= 0 then return answer('SOLD_OUT') end
if rate <= 0 then
  if now_ms < starts_ms then return answer('NOT_STARTED') end
  return answer('READY', '', now_ms + turn_ms)
end

local id, next_ticket = line[2], tonumber(line[3])
local run = { rate = tonumber(line[4]), base = tonumber(line[5]), at = tonumber(line[6]) }
local old = { rate = tonumber(line[7]), base = tonumber(line[8]), at = tonumber(line[9]) }
local fresh = line[1] ~= sale_id
if fresh then
  -- The first of this sale; a line of the item's sale before it, or none, is there.
  id, next_ticket, ticket, oldest = time[1] .. string.format('%06d', time[2]), 0, nil, {}
  run, old = { rate = rate, base = 0, at = math.max(now_ms, starts_ms) }, {}
elseif not (id and next_ticket and run.rate and run.base and run.at) then
  return redis.error_reply('KAIMAI line holds no number')
end

local changed = fresh
if run.rate ~= rate then
  changed = true
  if now_ms > run.at then
    old, run = run, { rate = rate, base = run.base + (now_ms - run.at) * run.rate / 1000, at = now_ms }
  else
    run.rate = rate
  end
end
-- The last ticket that was called; before the opening none.
local called = math.ceil(run.base) - 1
if now_ms >= run.at then called = math.floor(run.base + (now_ms - run.at) * run.rate / 1000) end
local function call_ms(t)
  if t >= run.base or not old.at then return run.at + (t - run.base) * 1000 / run.rate end
  -- What was called under a rate before the old one was called before that began.
  if t < old.base then return old.at end
  return old.at + (t - old.base) * 1000 / old.rate
end
local function is_over(t) return t <= called and call_ms(t) + turn_ms <= now_ms end

local joined = false
if ticket and is_over(ticket) then ticket = nil end
if not ticket then
  -- A rate that changed is noted also where this user is refused.
  if next_ticket - 1 - called >= limit then
    if not changed then return answer('FULL') end
  else
    joined = true
    ticket = math.max(next_ticket, called)
    next_ticket = ticket + 1
  end
end
if joined or changed then
  if fresh then redis.call('UNLINK', KEYS[3], KEYS[4]) end
  local function text(n) return string.format('%.17g', n) end
  local fields = { 'sale_id', sale_id, 'id', id, 'next', text(next_ticket), 'rate', text(run.rate), 'base', text(run.base),
    'at', text(run.at) }
  if old.at then
    for name, n in pairs(old) do
      fields[#fields + 1] = 'old_' .. name
      fields[#fields + 1] = text(n)
    end
  end
  redis.call('HSET', KEYS[3], unpack(fields))
  if joined then
    -- Each arrival takes up to four forgotten ones away, so that they do not gather.
    for i = 1, #oldest, 2 do
      if oldest[i] ~= uid and is_over(tonumber(oldest[i + 1])) then redis.call('ZREM', KEYS[4], oldest[i]) end
    end
    redis.call('ZADD', KEYS[4], text(ticket), uid)
  end
  local ttl = string.format('%.0f', math.max(0, call_ms(next_ticket) - now_ms) + turn_ms + DAY_MS)
  redis.call('PEXPIRE', KEYS[3], ttl)
  redis.call('PEXPIRE', KEYS[4], ttl)
end

if not ticket then return answer('FULL') end
local place = id .. '-' .. string.format('%.0f', ticket)
if ticket <= called then return answer('READY', place, math.floor(call_ms(ticket)) + turn_ms) end
return answer('WAITING', place, 0, ticket - called - 1, math.max(1, math.ceil(call_ms(ticket) - now_ms)))
