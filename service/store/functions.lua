#!lua name=om

-- om_fold, the one write of the system: add a batch's deltas to a shard if, and only if, nobody got further.
-- om_checksum: what a shard's rows are at one moment.
-- All arguments are checked before the first write, since a function is atomic but does not roll back.

local EDGE = 28 -- slot u32 and d, n, b i64, big-endian
local VALUES = 24
local USER_ITEM = 12 -- item u32 (kept as bytes) and time u64, big-endian
local TIME = 12 -- append time i64 and events u32, big-endian
local MOST_ARGUMENTS = 4000 -- of one BITFIELD, ZADD or XADD; Lua's stack takes about 8000
local MOST_CHECKED = 256
local MOST_EXACT = 2 ^ 53 -- Lua's numbers round above
local MOST_SLOT = 2 ^ 24 - 1 -- a string takes at most 512 MB

-- A whole number that is not negative, or nil.
local function whole(text)
  local number = tonumber(text)
  if number and number >= 0 and number <= MOST_EXACT and number % 1 == 0 then
    return number
  end
end

-- Checks a row's blob and turns it into the argument lists of BITFIELD.
local function increments(blob)
  local lists, list, last = {}, {'OVERFLOW', 'SAT'}, -1
  for at = 1, #blob, EDGE do
    local slot, d, n, b = struct.unpack('>I4i8i8i8', blob, at)
    if slot <= last or slot > MOST_SLOT then
      return nil
    end
    last = slot
    for field, delta in ipairs({d, n, b}) do
      if delta < 0 or delta > MOST_EXACT then
        return nil
      elseif delta > 0 then
        list[#list + 1] = 'INCRBY'
        list[#list + 1] = 'i64'
        list[#list + 1] = '#' .. (3 * slot + field - 1)
        list[#list + 1] = delta
      end
    end
    if #list > MOST_ARGUMENTS then
      lists[#lists + 1] = list
      list = {'OVERFLOW', 'SAT'}
    end
  end
  if #list > 2 then
    lists[#lists + 1] = list
  end
  return lists
end

-- The new absolute values of the edges that a blob names, in the blob's own form. Read as bytes: Lua's numbers round
-- above 2^53.
local function values(key, blob)
  local first = struct.unpack('>I4', blob, 1)
  local last = struct.unpack('>I4', blob, #blob - EDGE + 1)
  local row = redis.call('GETRANGE', key, first * VALUES, (last + 1) * VALUES - 1)
  local out = {}
  for at = 1, #blob, EDGE do
    local slot = struct.unpack('>I4', blob, at)
    local from = (slot - first) * VALUES
    local value = string.sub(row, from + 1, from + VALUES)
    out[#out + 1] = string.sub(blob, at, at + 3) .. value .. string.rep('\0', VALUES - #value)
  end
  return table.concat(out)
end

-- KEYS  watermarks, changes, totals, then R rows, then U users' sets
-- ARGV  field, expected, next, R, U, most edges, stream length, times blob, user life (ms),
--       number of totals T, T × (name, count), R × deltas blob, U × (most items, items blob)
-- Answers {1, next} if it added, {0, actual watermark} if not.
local function fold(keys, args)
  local field, expected, following = args[1], whole(args[2]), whole(args[3])
  local rows, users, cap = whole(args[4]), whole(args[5]), whole(args[6])
  local stream_length, times, life, totals = whole(args[7]), args[8], whole(args[9]), whole(args[10])
  if not (expected and following and rows and users and cap and stream_length and life and totals)
    or following < expected or #keys ~= 3 + rows + users or #args ~= 10 + 2 * totals + rows + 2 * users then
    return redis.error_reply('OMARGS counts do not fit')
  end

  local first_row, first_user = 10 + 2 * totals, 10 + 2 * totals + rows
  local edges, names, prepared, most, counts = 0, {}, {}, {}, {}
  if #times % TIME ~= 0 then
    return redis.error_reply('OMARGS times torn')
  end
  for r = 1, rows do
    local blob = args[first_row + r]
    edges = edges + #blob / EDGE
    if #blob == 0 or #blob % EDGE ~= 0 or edges > cap then
      return redis.error_reply('OMARGS deltas too long or torn')
    end
    names[r], prepared[r] = string.match(keys[3 + r], '}:row:(.+)$'), increments(blob)
    if not names[r] or not prepared[r] then
      return redis.error_reply('OMARGS rows must be named, slots ascend and deltas not be negative')
    end
  end
  for u = 1, users do
    local blob = args[first_user + 2 * u]
    most[u] = whole(args[first_user + 2 * u - 1])
    if not most[u] or #blob == 0 or #blob % USER_ITEM ~= 0 then
      return redis.error_reply('OMARGS user items torn')
    end
    for at = 1, #blob, USER_ITEM do
      if not whole(struct.unpack('>I8', blob, at + 4)) then
        return redis.error_reply('OMARGS times of user items too large')
      end
    end
  end
  for t = 1, totals do
    counts[t] = whole(args[10 + 2 * t])
    if not counts[t] then
      return redis.error_reply('OMARGS totals must be whole numbers')
    end
  end

  local actual = tonumber(redis.call('HGET', keys[1], field) or '0')
  if actual ~= expected then
    return {0, actual}
  end

  local entry = {}
  for r = 1, rows do
    local key = keys[3 + r]
    for _, list in ipairs(prepared[r]) do
      redis.call('BITFIELD', key, unpack(list))
    end
    entry[#entry + 1] = names[r]
    entry[#entry + 1] = values(key, args[first_row + r])
    if r == rows or #entry >= MOST_ARGUMENTS then
      local sequence = redis.call('HINCRBY', keys[1], 'sequence', 1)
      local heard = r == rows and times or ''
      redis.call('XADD', keys[2], 'MAXLEN', '~', stream_length, '*', 'sequence', sequence, 'times', heard, unpack(entry))
      entry = {}
    end
  end
  for u = 1, users do
    local key, blob = keys[3 + rows + u], args[first_user + 2 * u]
    local list = {}
    for at = 1, #blob, USER_ITEM do
      list[#list + 1] = struct.unpack('>I8', blob, at + 4)
      list[#list + 1] = string.sub(blob, at, at + 3)
      if #list > MOST_ARGUMENTS or at + USER_ITEM > #blob then
        redis.call('ZADD', key, 'GT', unpack(list))
        list = {}
      end
    end
    redis.call('ZREMRANGEBYRANK', key, 0, -(most[u] + 1))
    local newest = redis.call('ZRANGE', key, -1, -1, 'WITHSCORES')
    if newest[2] then
      redis.call('PEXPIREAT', key, newest[2] + life)
    end
  end
  for t = 1, totals do
    redis.call('HINCRBY', keys[3], args[9 + 2 * t], counts[t])
  end
  redis.call('HSET', keys[1], field, following)
  return {1, following}
end

redis.register_function('om_fold', fold)

-- Lets a partition of which a shard has folded nothing begin at an offset. Both fields or none: whoever recomputes the
-- statistics must begin at the same place.
--
-- KEYS  watermarks
-- ARGV  field, field of the beginning, offset
local function begin(keys, args)
  local offset = whole(args[3])
  if not offset or #keys ~= 1 or #args ~= 3 then
    return redis.error_reply('OMARGS the offset must be a whole number')
  end
  if redis.call('HEXISTS', keys[1], args[1]) == 1 then
    return 0
  end
  redis.call('HSET', keys[1], args[1], offset, args[2], offset)
  return 1
end

redis.register_function('om_begin', begin)

-- KEYS  watermarks, then rows
-- Answers how many entries were ever put into the change stream, then each row's length and SHA-1 in hex.
local function checksum(keys, args)
  if #keys < 1 or #keys > 1 + MOST_CHECKED or #args ~= 0 then
    return redis.error_reply('OMARGS too many rows')
  end
  local out = {tonumber(redis.call('HGET', keys[1], 'sequence') or '0')}
  for r = 2, #keys do
    local row = redis.call('GET', keys[r]) or ''
    out[#out + 1] = #row
    out[#out + 1] = redis.sha1hex(row)
  end
  return out
end

redis.register_function{function_name = 'om_checksum', callback = checksum, flags = {'no-writes'}}

-- Sets edges and totals of a shard to the values that the log says they should have, but only while all of its
-- watermarks are as they were when that was found out.
--
-- KEYS  watermarks, changes, totals, then R rows
-- ARGV  stream length, number of watermark fields F, F × (field, value), number of totals T, T × (name, count),
--       R × blob of edges with their absolute values
local function repair(keys, args)
  local stream_length, fields = whole(args[1]), whole(args[2])
  local totals = fields and whole(args[3 + 2 * fields])
  local rows = #keys - 3
  local first_total = fields and 3 + 2 * fields
  local first_row = totals and first_total + 2 * totals
  if not (stream_length and totals) or rows < 0 or #args ~= first_row + rows then
    return redis.error_reply('OMARGS counts do not fit')
  end
  local names = {}
  for r = 1, rows do
    local blob, last = args[first_row + r], -1
    names[r] = string.match(keys[3 + r], '}:row:(.+)$')
    if not names[r] or #blob == 0 or #blob % EDGE ~= 0 then
      return redis.error_reply('OMARGS rows must be named and not torn')
    end
    for at = 1, #blob, EDGE do
      local slot = struct.unpack('>I4', blob, at)
      if slot <= last or slot > MOST_SLOT then
        return redis.error_reply('OMARGS slots must ascend')
      end
      last = slot
    end
  end
  for t = 1, totals do
    if not whole(args[first_total + 2 * t]) then
      return redis.error_reply('OMARGS totals must be whole numbers')
    end
  end

  if redis.call('HLEN', keys[1]) ~= fields then
    return 0
  end
  for f = 1, fields do
    if redis.call('HGET', keys[1], args[1 + 2 * f]) ~= args[2 + 2 * f] then
      return 0
    end
  end

  local entry = {}
  for r = 1, rows do
    local key, blob = keys[3 + r], args[first_row + r]
    for at = 1, #blob, EDGE do
      local slot = struct.unpack('>I4', blob, at)
      redis.call('SETRANGE', key, slot * VALUES, string.sub(blob, at + 4, at + EDGE - 1))
    end
    entry[#entry + 1] = names[r]
    entry[#entry + 1] = blob
    if r == rows or #entry >= MOST_ARGUMENTS then
      local sequence = redis.call('HINCRBY', keys[1], 'sequence', 1)
      redis.call('XADD', keys[2], 'MAXLEN', '~', stream_length, '*', 'sequence', sequence, 'times', '', unpack(entry))
      entry = {}
    end
  end
  for t = 1, totals do
    local name, count = args[first_total + 2 * t - 1], args[first_total + 2 * t]
    if count == '0' then
      redis.call('HDEL', keys[3], name)
    else
      redis.call('HSET', keys[3], name, count)
    end
  end
  return 1
end

redis.register_function('om_repair', repair)
