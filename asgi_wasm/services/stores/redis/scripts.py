"""What Redis runs for a hostcall: scripts, since each hostcall is to be atomic and one round trip.

A worker lives while somebody subscribes to its channel; Redis itself knows that at once when a process is killed. What
is published there is a queue's token, and behind it for how many values, where those are not one. Where
Redis is full, a script must not fail halfway: what it removes, it removes last.
"""

# KEYS: the value. ARGV: value, cas. CAS numbers count from 1 to 2^32-1 for each key, and never are 0.
SET = """
local present = redis.call('HGET', KEYS[1], 'cas')
if present and not string.match(present, '^%d+$') then
  return redis.error_reply('WRONGTYPE It is no value of ours')
end
if present and ARGV[2] ~= '0' and ARGV[2] ~= present then return 0 end
redis.call('HSET', KEYS[1], 'value', ARGV[1], 'cas', (tonumber(present or '0') % 4294967295) + 1)
return 1
"""

# ARGV: prefix of queues' keys, the queue's name, the token to look at first, the last token. Leaves `token` and `key`,
# and whether the queue was `found`.
_FIND = """
local token, key, found = tonumber(ARGV[3]), nil, false
while true do
  key = ARGV[1] .. string.format('%d', token)
  local name = redis.call('GET', key)
  found = name == ARGV[2]
  if found or not name then break end
  token = token % tonumber(ARGV[4]) + 1
end
"""

RESOLVE = f"{_FIND} if found then return token end return false"

# ARGV[5]: the worker, ARGV[6]: the name under which its connection takes values, ARGV[7]: prefix of channels. ARGV[8]:
# "take" the queue over, or "replace" a plugin of this worker's that owned it and failed; or keep the place among the
# owners that it has, when it "returns" or when it "tends" the queue from time to time; or it "resigns", as its plugin
# failed and is not back yet. ARGV[9]: the seconds for which a worker must be gone until what it has taken is given
# back: it may come back, and say that it had it. Gives back the token, and for how many values the worker is to be
# woken. Where the first owner was found gone, what it was told of is told to the next one, whoever that is.
REGISTER = f"""{_FIND}
local owners, values, takers, me = key .. ':owners', key .. ':values', key .. ':takers', ARGV[5]
local function lives(worker) return tonumber(redis.call('PUBSUB', 'NUMSUB', ARGV[7] .. worker)[2]) > 0 end
if not found then redis.call('SET', key, ARGV[2]) end
local first = redis.call('LINDEX', owners, 0)
for _, owner in ipairs(redis.call('LRANGE', owners, 0, -1)) do
  if owner == me or lives(owner) then break end
  redis.call('LREM', owners, 0, owner)
end
local living = redis.call('LINDEX', owners, 0)
if ARGV[8] == 'resigns' then
  redis.call('LREM', owners, 0, me)
  living = redis.call('LINDEX', owners, 0)
end
local inherits = ARGV[8] == 'resigns' or first and first ~= living
if ARGV[8] == 'take' or ARGV[8] == 'replace' then
  if living ~= me then
    redis.call('LREM', owners, 0, me)
    redis.call('LPUSH', owners, me)
  end
elseif ARGV[8] ~= 'resigns' then
  local there = false
  for _, owner in ipairs(redis.call('LRANGE', owners, 0, -1)) do there = there or owner == me end
  if not there then redis.call('RPUSH', owners, me) end
end
local back, now, known = 0, tonumber(redis.call('TIME')[1]), redis.call('HGETALL', takers)
for place = 1, #known, 2 do
  local taker, gone_since = known[place], tonumber(known[place + 1])
  local worker = string.match(taker, '^[^.]*')
  local mine = worker == me
  if not mine and lives(worker) then
    if gone_since > 0 then redis.call('HSET', takers, taker, 0) end
  elseif not mine and gone_since == 0 then
    redis.call('HSET', takers, taker, now)
  elseif taker ~= ARGV[6] and (mine or now - gone_since >= tonumber(ARGV[9])) then
    local taken, numbers = {{}}, {{}}
    local flat = redis.call('HGETALL', key .. ':taken:' .. taker)
    for place = 1, #flat, 2 do
      numbers[#numbers + 1] = tonumber(flat[place])
      taken[tonumber(flat[place])] = flat[place + 1]
    end
    table.sort(numbers)
    for place = #numbers, 1, -1 do redis.call('LPUSH', values, taken[numbers[place]]) end
    redis.call('DEL', key .. ':taken:' .. taker)
    redis.call('HDEL', takers, taker)
    back = back + #numbers
  end
end
local owner = redis.call('LINDEX', owners, 0)
local knows_nothing = owner == me and (ARGV[8] == 'returns' or ARGV[8] == 'replace' or not living)
if inherits or knows_nothing then back = redis.call('LLEN', values) end
if owner == me then return {{token, back}} end
if owner and back > 0 then redis.call('PUBLISH', ARGV[7] .. owner, string.format('%d %d', token, back)) end
return {{token, 0}}
"""

# KEYS: the queue. ARGV: value, token, prefix of channels. A worker that nobody reached is gone: the one before it owns,
# and is told of all values, since the one that is gone may have been told of some.
ENQUEUE = """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('RPUSH', KEYS[1] .. ':values', ARGV[1])
local owners, told = KEYS[1] .. ':owners', ARGV[2]
for _, owner in ipairs(redis.call('LRANGE', owners, 0, -1)) do
  if redis.call('PUBLISH', ARGV[3] .. owner, told) > 0 then break end
  redis.call('LREM', owners, 0, owner)
  told = ARGV[2] .. string.format(' %d', redis.call('LLEN', KEYS[1] .. ':values'))
end
return 1
"""

# KEYS: the queue. ARGV: the taker, the number of this call. The value is kept until the worker has said that it had it,
# by a server that is full as well: it refuses nothing to a script that has written before. One that refused it all the
# same would keep nothing, rather than to let nobody empty the queue.
DEQUEUE = """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local value = redis.call('LPOP', KEYS[1] .. ':values')
if value then
  redis.pcall('HSET', KEYS[1] .. ':takers', ARGV[1], 0)
  redis.pcall('HSET', KEYS[1] .. ':taken:' .. ARGV[1], ARGV[2], value)
end
return value
"""

# KEYS: the gauge's workers, this worker's part. ARGV: the worker, and what BITFIELD is to do to its part.
CHANGE_GAUGE = """
redis.call('SADD', KEYS[1], ARGV[1])
return redis.call('BITFIELD', KEYS[2], ARGV[2], 'i64', '0', ARGV[3], 'GET', 'i64', '0')[2]
"""

# KEYS: the gauge's workers. ARGV: the worker, prefix of channels, of parts, the gauge's name. The parts of living
# workers, as bytes: Lua has no 64-bit numbers.
READ_GAUGE = """
local parts = {}
for _, worker in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  local part = ARGV[3] .. worker .. ':' .. ARGV[4]
  if worker == ARGV[1] or tonumber(redis.call('PUBSUB', 'NUMSUB', ARGV[2] .. worker)[2]) > 0 then
    parts[#parts + 1] = redis.call('GET', part)
  else
    redis.call('DEL', part)
    redis.call('SREM', KEYS[1], worker)
  end
end
return parts
"""
