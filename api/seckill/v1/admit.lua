#!lua
-- admit: takes units of a running sale, for one purchase or for several in their order. Each purchase is judged by itself:
-- nothing that one of them asks for changes the outcome of another, except that units it takes are gone.
--
-- KEYS
--   1 meta    hash    seckill:<item_id>:meta     epoch, sale_id, starts_ms, ends_ms ('' never), limit, backlog
--   2 stock   string  seckill:<item_id>:stock    units left to admit; below 0 after entries that took more than there was
--   3 req     string  seckill:<item_id>:req      the last req_id given
--   4 buyers  hash    seckill:<item_id>:buyers   user -> units taken; below 0 where units came back before they were counted
--   5 vip     hash    seckill:<item_id>:vip      user -> limit, in place of meta's
--   6 stream  stream  stream:seckill:<item_id>   admitted purchases
--   7 seen0   hash    seckill:<item_id>:seen:0   user:request_id -> stream id, of even windows of 10 minutes
--   8 seen1   hash    seckill:<item_id>:seen:1   the same, of odd windows
-- ARGV
--   1 epoch   of the sale as the caller knows it, decimal
--   then for each purchase, 1 to 1000 of them:
--     uid         UUID in lower case
--     qty         1 to 999999999, decimal
--     request_id  at most 64 bytes; '' none. The same one of the same user within 10 to 20 minutes is answered with the
--                 first one's stream id and takes nothing. A purchase token's id, of at most 64 bytes too, may follow it,
--                 or follow none, behind a zero byte: it is honoured once in the same way
--     tp          trace context, at most 128 bytes; '' none
-- Returns
--   {'UNAVAILABLE'}  the epoch is another, or a key is missing: nothing was done. Ask for the sale again, then try again
--   {'OK', now_ms, stock, outcome…}  the clock that judged, units left, and for each purchase one of
--     'QUEUED <stream id>'  admitted: XADD of uid, req_id, ts, qty, epoch (and tp)
--     'SOLD_OUT' 'NOT_STARTED' 'ENDED' 'LIMIT_REACHED'
--     'BACKLOG_FULL'      the stream holds meta's backlog of entries that wait to become orders
--     'INVALID <what>'    uid, qty, request_id or tp of this purchase is not as described above
--     'FAILED'            the stream takes no entry, or buyers or vip holds no number for this user
-- Errors, all before the first write
--   KAIMAI <what is wrong>   the number of keys or arguments is wrong
--   KAIMAI unreadable: …     a key holds something else than it should
--   WRONGTYPE, OOM, READONLY  as Redis says
--
-- Numbers: Lua has doubles only. req_id may exceed 2^53, so it stays a decimal string from GET to XADD.

-- Errors and argument checks. `fault`: the caller sent something wrong; `unreadable`: a key holds something wrong.
local function fault(what) return redis.error_reply('KAIMAI ' .. what) end
local function unreadable(what) return redis.error_reply('KAIMAI unreadable: ' .. what) end
local function is_decimal(text, digits) return #text <= digits and string.find(text, '^%d+$') ~= nil end
local function is_integer(text) return #text <= 15 and string.find(text, '^%-?%d+$') ~= nil end
local function is_uuid(text)
  return #text == 36 and string.find(text, '^[0-9a-f]+%-[0-9a-f]+%-[0-9a-f]+%-[0-9a-f]+%-[0-9a-f]+$') ~= nil
end
-- The clock that sale windows and waiting rooms are judged by, and the end of a window as meta has it.
local function clock_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
local function end_of_window(text)
  if text == '' then return math.huge end
  return tonumber(text)
end

local PER = 4
local n = (#ARGV - 1) / PER
if #KEYS ~= 8 then return fault('admit takes 8 keys') end
if n < 1 or n > 1000 or n ~= math.floor(n) then
  return fault('admit takes an epoch and 4 arguments for each of 1 to 1000 purchases')
end

-- What makes a purchase's arguments unusable; nil: nothing.
local function invalid(uid, qty, rid, token, tp)
  if not is_uuid(uid) then return 'uid' end
  if #qty > 9 or not string.find(qty, '^[1-9]%d*$') then return 'qty' end
  if #rid > 64 or #token > 65 then return 'request_id' end
  if #tp > 128 then return 'tp' end
end

-- Users of the valid purchases; fields of seen: of purchase i's request id, of its token, and all that are asked for.
local users, user_at, by_rid, by_token, named, refused = {}, {}, {}, {}, {}, {}
for i = 1, n do
  local a = 2 + (i - 1) * PER
  local uid, rid, token = ARGV[a], ARGV[a + 2], ''
  local zero = rid ~= '' and string.find(rid, '\0', 1, true)
  if zero then
    rid, token = string.sub(rid, 1, zero - 1), string.sub(rid, zero)
  end
  refused[i] = invalid(uid, ARGV[a + 1], rid, token, ARGV[a + 3])
  if not refused[i] then
    users[#users + 1] = uid
    user_at[i] = #users
    if rid ~= '' then
      by_rid[i] = uid .. ':' .. rid
      named[#named + 1] = by_rid[i]
    end
    if token ~= '' then
      by_token[i] = uid .. ':' .. token
      named[#named + 1] = by_token[i]
    end
  end
end

-- Every key is read before anything is written: a wrong type raises its error here.
local meta = redis.call('HMGET', KEYS[1], 'epoch', 'starts_ms', 'ends_ms', 'limit', 'backlog')
local stock_text = redis.call('GET', KEYS[2])
local req_text = redis.call('GET', KEYS[3])
if meta[1] ~= ARGV[1] or not stock_text or not req_text then return { 'UNAVAILABLE' } end
local starts_ms, ends_ms = tonumber(meta[2]), end_of_window(meta[3])
local limit, backlog, stock = tonumber(meta[4]), tonumber(meta[5]), tonumber(stock_text)
if not (starts_ms and ends_ms and limit and backlog and stock and is_integer(stock_text)) then
  return unreadable('meta or stock holds no number')
end
if not is_decimal(req_text, 19) then return unreadable('req holds no decimal') end
local taken, limits = {}, {}
if #users > 0 then
  taken, limits = redis.call('HMGET', KEYS[4], unpack(users)), redis.call('HMGET', KEYS[5], unpack(users))
end
local length = redis.call('XLEN', KEYS[6])
local now_ms = clock_ms()
local WINDOW_MS = 600000
local window = math.floor(now_ms / WINDOW_MS)
local seen_key, seen_before_key = KEYS[7 + window % 2], KEYS[8 - window % 2]
local seen = {}
if #named > 0 then
  local now, before = redis.call('HMGET', seen_key, unpack(named)), redis.call('HMGET', seen_before_key, unpack(named))
  for i = 1, #named do
    seen[named[i]] = now[i] or before[i]
  end
end
-- By user; false where the keys hold no number.
local held, allowed = {}, {}
for u = 1, #users do
  local uid = users[u]
  if held[uid] == nil then
    held[uid], allowed[uid] = tonumber(taken[u] or 0) or false, tonumber(limits[u] or limit) or false
  end
end

-- req_text plus a small number, exact beyond 2^53.
local req_head, req_tail = string.sub(req_text, 1, -15), tonumber(string.sub(req_text, -14))
local function req_plus(more)
  local head, tail = req_head, req_tail + more
  if tail >= 1e14 then
    tail = tail - 1e14
    head = string.format('%.0f', tonumber(head == '' and '0' or head) + 1)
  end
  if head == '' then return string.format('%.0f', tail) end
  return head .. string.format('%014.0f', tail)
end

local outcomes = { 'OK', now_ms, 0 }
local ts = string.format('%.0f', now_ms)
local admitted, units = 0, 0
local buyers, new_seen = {}, {}
local function remember(field, id)
  if not field or seen[field] then return end
  seen[field] = id
  new_seen[#new_seen + 1] = field
  new_seen[#new_seen + 1] = id
end
for i = 1, n do
  local a = 2 + (i - 1) * PER
  local uid, qty, tp = users[user_at[i]], tonumber(ARGV[a + 1]), ARGV[a + 3]
  local outcome
  local id = by_token[i] and seen[by_token[i]] or by_rid[i] and seen[by_rid[i]]
  if refused[i] then
    outcome = 'INVALID ' .. refused[i]
  elseif id then
    outcome = 'QUEUED ' .. id
    -- Whichever of the two is new is spent as well, or it would buy once more.
    if by_token[i] then
      remember(by_token[i], id)
      remember(by_rid[i], id)
    end
  elseif now_ms < starts_ms then
    outcome = 'NOT_STARTED'
  elseif now_ms >= ends_ms then
    outcome = 'ENDED'
  elseif stock - units < qty then
    outcome = 'SOLD_OUT'
  elseif not (held[uid] and allowed[uid]) then
    outcome = 'FAILED'
  elseif held[uid] + qty > allowed[uid] then
    outcome = 'LIMIT_REACHED'
  elseif length + admitted >= backlog then
    outcome = 'BACKLOG_FULL'
  else
    -- The one write that can still fail (a stream whose last id is the greatest there is) comes before its units go.
    local req_id = req_plus(admitted + 1)
    if tp == '' then
      id = redis.pcall('XADD', KEYS[6], '*', 'uid', uid, 'req_id', req_id, 'ts', ts, 'qty', ARGV[a + 1], 'epoch', ARGV[1])
    else
      id = redis.pcall('XADD', KEYS[6], '*',
        'uid', uid, 'req_id', req_id, 'ts', ts, 'qty', ARGV[a + 1], 'epoch', ARGV[1], 'tp', tp)
    end
    if type(id) == 'string' then
      admitted, units = admitted + 1, units + qty
      held[uid] = held[uid] + qty
      buyers[#buyers + 1] = uid
      buyers[#buyers + 1] = string.format('%.0f', held[uid])
      remember(by_rid[i], id)
      remember(by_token[i], id)
      outcome = 'QUEUED ' .. id
    else
      outcome = 'FAILED'
    end
  end
  outcomes[i + 3] = outcome
end

if admitted > 0 then
  redis.call('DECRBY', KEYS[2], string.format('%.0f', units))
  redis.call('SET', KEYS[3], req_plus(admitted))
  redis.call('HSET', KEYS[4], unpack(buyers))
end
if #new_seen > 0 then
  redis.call('HSET', seen_key, unpack(new_seen))
  -- To the end of the next window: until then the other key is the one that is written.
  redis.call('PEXPIREAT', seen_key, string.format('%.0f', (window + 2) * WINDOW_MS))
end
outcomes[3] = stock - units
return outcomes
