#!lua
-- consumers: records until when each consumer has settled everything it read, and tells whether an entry that is in no
-- stream may still be in a consumer's memory.
--
-- Redis may lose an entry that a consumer has read and not settled yet: by a flush, a start without its data, or a
-- failover to a replica that missed the last writes. Then this hash is gone too, or it is another server's. It is made
-- again with `since` later than the loss, and the lost entry may be in memory until every consumer has settled what it
-- read before `since`. A consumer has 10 seconds to report after the loss; one that has not reported for 60 seconds is
-- taken for dead.
--
-- KEYS
--   1 consumers  hash  seckill:consumers, in a cluster seckill:{<item_id>}:consumers  server, since, and 'consumer:<name>' -> '<settled until, ms> <reported at, ms>'
-- ARGV
--   1 name  of the consumer that reports; '' to ask
--   2 age   in ms, of the oldest read whose entries are not all settled; 'none' when the consumer leaves, and to ask
-- Returns
--   1  a lost entry may be in a consumer's memory
--   0  no consumer has one, or a report was recorded
-- Errors, all before the first write
--   KAIMAI <what is wrong>, OOM, READONLY

-- include: run_id

local REPORT_WITHIN_MS, DEAD_AFTER_MS = 10000, 60000
if #KEYS ~= 1 then return redis.error_reply('KAIMAI consumers takes 1 key') end
local name, age = ARGV[1], ARGV[2]
if #ARGV ~= 2 or not (age == 'none' or (name ~= '' and #age <= 12 and string.find(age, '^%d+$'))) then
  return redis.error_reply('KAIMAI consumers takes a name and an age in ms')
end
local server = run_id()
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- A key that cannot be read is as good as lost.
local known = redis.pcall('HMGET', KEYS[1], 'server', 'since')
local since = not known.err and known[1] == server and tonumber(known[2] or '')
if not since then
  since = now
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], 'server', server, 'since', string.format('%.0f', now))
end

if name ~= '' then
  if age == 'none' then
    redis.call('HDEL', KEYS[1], 'consumer:' .. name)
  else
    redis.call('HSET', KEYS[1], 'consumer:' .. name, string.format('%.0f %.0f', now - tonumber(age), now))
  end
  return 0
end

if now < since + REPORT_WITHIN_MS then return 1 end
local fields = redis.call('HGETALL', KEYS[1])
for i = 1, #fields, 2 do
  local settled_until, reported_at = string.match(fields[i + 1], '^(%-?%d+) (%d+)$')
  if settled_until then
    if tonumber(reported_at) + DEAD_AFTER_MS < now then
      redis.call('HDEL', KEYS[1], fields[i])
    elseif tonumber(settled_until) < since then
      return 1
    end
  end
end
return 0
