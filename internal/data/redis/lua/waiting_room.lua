#!lua
-- waiting_room: admits one user to a running sale, or draws a ticket for the sale's waiting room and returns the
-- distance
-- to its turn.
--
-- Tickets are 0, 1, 2 … in the order of arrival. The clock calls them, `rate` each second, whether or not their users
-- ask,
-- so that users who left do not delay others, and no background process is needed. Ticket t is called at
-- at + (t - base) * 1000 / rate. A new rate sets base to the current position, so that the order stays. While the
-- waiting room is empty the clock keeps running, and the next arrival gets the ticket at its current position. A turn
-- lasts
-- turn_ms from its call; a user who comes later gets a new ticket at the end.
--
-- KEYS
--   1 meta          hash    seckill:<item_id>:meta    epoch, sale_id, starts_ms, ends_ms ('' never), admit_rate ('0' no
-- waiting room)
--   2 stock         string  seckill:<item_id>:stock   units left to admit
--   3 waiting_room  hash    seckill:<item_id>:line    sale_id, id, next (ticket), rate, base, at (ms); old_*: before
-- the last change
--   4 tickets       zset    seckill:<item_id>:places  user -> ticket
-- ARGV
--   1 epoch     of the sale as the caller knows it, decimal
--   2 uid       UUID in lower case
--   3 turn_ms   how long a turn lasts, decimal
--   4 capacity  users who may wait, decimal
-- Returns
--   {'UNAVAILABLE'}  the epoch is another, or a key is missing: nothing was done. Ask for the sale again, then try
-- again
--   {outcome, now_ms, ticket, until_ms, ahead, wait_ms}, outcome one of
--     'READY'    it is the user's turn until until_ms; ticket names the turn, '' where the sale has no waiting room
--     'WAITING'  ahead users are called before, and the user in wait_ms at this rate
--     'NOT_STARTED' 'ENDED' 'SOLD_OUT'
--     'FULL'     capacity users wait already
-- Errors, all before the first write
--   KAIMAI <what is wrong>, WRONGTYPE, OOM, READONLY

-- include: checks
-- include: clock

local DAY_MS = 86400000
if #KEYS ~= 4 or #ARGV ~= 4 then return fault('waiting_room takes 4 keys and 4 arguments') end
local uid = ARGV[2]
if not is_uuid(uid) then return fault('uid is not a UUID in lower case') end
for i = 3, 4 do
  if #ARGV[i] > 12 or not string.find(ARGV[i], '^[1-9]%d*$') then return fault('argument ' .. i .. ' is not a decimal') end
end
local turn_ms, capacity = tonumber(ARGV[3]), tonumber(ARGV[4])
local meta = redis.call('HMGET', KEYS[1], 'epoch', 'sale_id', 'starts_ms', 'ends_ms', 'admit_rate')
local stock_text = redis.call('GET', KEYS[2])
if meta[1] ~= ARGV[1] or not stock_text then return { 'UNAVAILABLE' } end
local sale_id, starts_ms, rate, stock = meta[2], tonumber(meta[3]), tonumber(meta[5] or 0), tonumber(stock_text)
local ends_ms = end_of_window(meta[4])
if not (sale_id and starts_ms and ends_ms and rate and stock) then return unreadable('meta or stock holds no number') end
local room = redis.call('HMGET', KEYS[3], 'sale_id', 'id', 'next', 'rate', 'base', 'at', 'old_rate', 'old_base', 'old_at')
local ticket = tonumber(redis.call('ZSCORE', KEYS[4], uid))
local oldest = redis.call('ZRANGE', KEYS[4], 0, 3, 'WITHSCORES')
local now_ms = clock_ms()

local function answer(outcome, name, until_ms, ahead, wait_ms)
  return { outcome, now_ms, name or '', until_ms or 0, ahead or 0, wait_ms or 0 }
end
if now_ms >= ends_ms then return answer('ENDED') end
if stock <= 0 then return answer('SOLD_OUT') end
if rate <= 0 then
  if now_ms < starts_ms then return answer('NOT_STARTED') end
  return answer('READY', '', now_ms + turn_ms)
end

local id, next_ticket = room[2], tonumber(room[3])
local run = { rate = tonumber(room[4]), base = tonumber(room[5]), at = tonumber(room[6]) }
local old = { rate = tonumber(room[7]), base = tonumber(room[8]), at = tonumber(room[9]) }
local fresh = room[1] ~= sale_id
if fresh then
  -- The first of this sale; the waiting room of the item's sale before it, or none, is there.
  id, next_ticket, ticket, oldest = string.format('%.0f', now_ms), 0, nil, {}
  run, old = { rate = rate, base = 0, at = math.max(now_ms, starts_ms) }, {}
elseif not (id and next_ticket and run.rate and run.base and run.at)
  or (run.base > 0 and not (old.rate and old.base and old.at)) then
  return unreadable('waiting_room holds no number')
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
  if t >= run.base then return run.at + (t - run.base) * 1000 / run.rate end
  -- Called under the rate before. What an even older one called, was called before that began.
  if t >= old.base then return old.at + (t - old.base) * 1000 / old.rate end
  return old.at
end
local function is_over(t) return t <= called and call_ms(t) + turn_ms <= now_ms end

local joined = false
if ticket and is_over(ticket) then ticket = nil end
if not ticket then
  -- A rate that changed is noted also where this user is refused.
  if next_ticket - 1 - called >= capacity then
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
local name = id .. '-' .. string.format('%.0f', ticket)
if ticket <= called then return answer('READY', name, math.floor(call_ms(ticket)) + turn_ms) end
return answer('WAITING', name, 0, ticket - called - 1, math.max(1, math.ceil(call_ms(ticket) - now_ms)))
