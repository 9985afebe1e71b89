#!lua name=om

-- om_fold, the one write of the system: add a batch's deltas to a shard if, and only if, nobody got further.
-- om_checksum: what a shard's rows are at one moment.
-- All arguments are checked before the first write, since a function is atomic but does not roll back.

local EDGE = 28 -- slot u32 and d, n, b i64, big-endian
local VALUES = 24
local SIZE = 4 -- u32
local SLATES = 4 -- how many slates of a user follow, u32
local SLATE = 10 -- when it was served u64 (ms), how many items u16; then the items, u32 kept as bytes
local ITEM = 4
local TIME = 12 -- append time i64 and events u32, big-endian
local MOST_ARGUMENTS = 4000 -- of one ZADD or XADD; Lua's stack takes about 8000
local MOST_CHECKED = 256
local MOST_NUMBERS = 1000 -- of one struct.unpack; a multiple of 4
local MOST_EXACT = 2 ^ 53 - 1 -- Lua's numbers round above
local MOST_SLOT = 2 ^ 24 - 1 -- a string takes at most 512 MB
local GAP = 16 -- edges so few slots apart are read and written in one piece: fewer commands for a few bytes more
local WORD = 2 ^ 32

-- Tables that grow cost more than what is put into them: these are written over and over, and read as far as written.
local edges, values, pieces, members = {}, {}, {}, {}

-- A whole number that is not negative, or nil.
local function whole(text)
  local number = tonumber(text)
  if number and number >= 0 and number <= MOST_EXACT and number % 1 == 0 then
    return number
  end
end

-- An edge's sums after d, n and b are added where Lua's numbers would round: in two words each, up to the largest i64.
local function add_exactly(slot, old, from, ...)
  local words = {struct.unpack('>I4I4I4I4I4I4', old, from)}
  for field, delta in ipairs({...}) do
    local low = words[2 * field] + delta % WORD
    local high = words[2 * field - 1] + math.floor(delta / WORD) + math.floor(low / WORD)
    words[2 * field - 1], words[2 * field] = high, low % WORD
    if high >= WORD / 2 then
      words[2 * field - 1], words[2 * field] = WORD / 2 - 1, WORD - 1
    end
  end
  return struct.pack('>I4I4I4I4I4I4I4', slot, unpack(words, 1, 6))
end

-- Reads a row's edges from a byte of a blob on into `edges`: slot, d, n and b in turn; nil if they are malformed.
local function read_edges(blob, at, count)
  local last = -1
  for from = 1, count, MOST_NUMBERS / 4 do
    local some = math.min(count - from + 1, MOST_NUMBERS / 4)
    local numbers = {struct.unpack('>' .. string.rep('I4i8i8i8', some), blob, at + (from - 1) * EDGE)}
    local to = (from - 1) * 4
    for n = 1, 4 * some, 4 do
      local slot, d, n_, b = numbers[n], numbers[n + 1], numbers[n + 2], numbers[n + 3]
      if slot <= last or slot > MOST_SLOT or d < 0 or n_ < 0 or b < 0
        or d > MOST_EXACT or n_ > MOST_EXACT or b > MOST_EXACT then
        return nil
      end
      edges[to + n], edges[to + n + 1], edges[to + n + 2], edges[to + n + 3] = slot, d, n_, b
      last = slot
    end
  end
  return true
end

-- Adds `count` of the edges read last to what their row holds. Answers what to write, byte offsets and bytes in turn,
-- and the edges' new absolute values in the form in which they came. Writes nothing yet.
local function add(key, count)
  -- Globals are slow to reach in here.
  local from_bytes, to_bytes, cut = struct.unpack, struct.pack, string.sub
  local writes, start, all = {}, 1, 4 * count
  while start <= all do
    local stop, first = start, edges[start]
    while stop + 4 <= all and edges[stop + 4] - edges[stop] <= GAP do
      stop = stop + 4
    end
    local length = (edges[stop] - first + 1) * VALUES
    local old = redis.call('GETRANGE', key, first * VALUES, first * VALUES + length - 1)
    old = old .. string.rep('\0', length - #old)
    local parts, kept = 0, 1
    for at = start, stop, 4 do
      local slot, more_d, more_n, more_b = edges[at], edges[at + 1], edges[at + 2], edges[at + 3]
      local from = (slot - first) * VALUES + 1
      local d, n, b = from_bytes('>i8i8i8', old, from)
      d, n, b = d + more_d, n + more_n, b + more_b
      local value
      if d > MOST_EXACT or n > MOST_EXACT or b > MOST_EXACT then
        value = add_exactly(slot, old, from, more_d, more_n, more_b)
      else
        value = to_bytes('>I4i8i8i8', slot, d, n, b)
      end
      values[(at + 3) / 4] = value
      if kept < from then
        parts = parts + 1
        pieces[parts] = cut(old, kept, from - 1)
      end
      parts = parts + 1
      pieces[parts] = cut(value, 5)
      kept = from + VALUES
    end
    writes[#writes + 1] = first * VALUES
    writes[#writes + 1] = table.concat(pieces, '', 1, parts)
    start = stop + 4
  end
  return writes, table.concat(values, '', 1, count)
end

-- Where each of some users' slates begin in a blob; nil if the blob is malformed.
local function slates_of(users, blob)
  local begins, at, size = {}, 1, #blob
  for user = 1, users do
    if at + SLATES - 1 > size then
      return nil
    end
    local slates = struct.unpack('>I4', blob, at)
    begins[user], at = at, at + SLATES
    for _ = 1, slates do
      if at + SLATE - 1 > size then
        return nil
      end
      local served, items = struct.unpack('>I8I2', blob, at)
      if served > MOST_EXACT then
        return nil
      end
      at = at + SLATE + items * ITEM
    end
  end
  return at == size + 1 and begins or nil
end

-- Adds slates to a user's items, keeps the newest of them, and the whole until a while after the newest slate.
local function remember(key, blob, at, most, life)
  local count, added, newest = 0, 0, 0
  local slates = struct.unpack('>I4', blob, at)
  at = at + SLATES
  for slate = 1, slates do
    local served, items = struct.unpack('>I8I2', blob, at)
    local score, names = string.format('%.0f', served), {struct.unpack(string.rep('c4', items), blob, at + SLATE)}
    for item = 1, items do
      members[count + 1], members[count + 2] = score, names[item]
      count = count + 2
    end
    newest, at = math.max(newest, served), at + SLATE + items * ITEM
    if count > MOST_ARGUMENTS or (slate == slates and count > 0) then
      added = added + redis.call('ZADD', key, 'GT', unpack(members, 1, count))
      count = 0
    end
  end
  local size = redis.call('ZCARD', key)
  if size > most then
    redis.call('ZREMRANGEBYRANK', key, 0, -(most + 1))
  end
  if size == added then -- a new key: GT takes one that never expires for one that expires last
    redis.call('PEXPIREAT', key, newest + life)
  else
    redis.call('PEXPIREAT', key, newest + life, 'GT')
  end
end

-- KEYS  watermarks, changes, totals, then R rows, then what U users saw, then what V users answered
-- ARGV  field, expected, next, R, U, V, most edges, stream length, user life (ms), most seen, most answered,
--       times, edges of each row, deltas, slates (blobs), then name and count of each total
-- Answers {1, next} if it added, {0, actual watermark} if not.
local function fold(keys, args)
  local field, numbers = args[1], {}
  for a = 2, 11 do
    numbers[a - 1] = whole(args[a])
    if not numbers[a - 1] then
      return redis.error_reply('OMARGS numbers must be whole')
    end
  end
  local expected, following, rows, seen, answered, cap, stream_length, life, most_seen, most_answered = unpack(numbers)
  local times, sizes, deltas, slates = args[12], args[13], args[14], args[15]
  local users = seen + answered
  if following < expected or #keys ~= 3 + rows + users or #args < 15 or #args % 2 == 0 then
    return redis.error_reply('OMARGS counts do not fit')
  end
  if #times % TIME ~= 0 or #sizes ~= rows * SIZE or #deltas % EDGE ~= 0 then
    return redis.error_reply('OMARGS times or deltas torn')
  end
  if #deltas / EDGE > cap then
    return redis.error_reply('OMARGS more edges than a call may touch')
  end

  local names, writes, changes, counts, at = {}, {}, {}, {}, 1
  for r = 1, rows do
    local count = struct.unpack('>I4', sizes, (r - 1) * SIZE + 1)
    names[r] = string.match(keys[3 + r], '}:row:(.+)$')
    if not names[r] or count == 0 or at + count * EDGE - 1 > #deltas then
      return redis.error_reply('OMARGS rows must be named and have edges')
    end
    if not read_edges(deltas, at, count) then
      return redis.error_reply('OMARGS slots must ascend and deltas not be negative')
    end
    writes[r], changes[r] = add(keys[3 + r], count)
    at = at + count * EDGE
  end
  local begins = slates_of(users, slates)
  if at ~= #deltas + 1 or not begins then
    return redis.error_reply('OMARGS deltas or slates torn')
  end
  for a = 16, #args, 2 do
    counts[a] = whole(args[a + 1])
    if not counts[a] then
      return redis.error_reply('OMARGS totals must be whole numbers')
    end
  end

  local actual = tonumber(redis.call('HGET', keys[1], field) or '0')
  if actual ~= expected then
    return {0, actual}
  end

  local entry = {}
  for r = 1, rows do
    for w = 1, #writes[r], 2 do
      redis.call('SETRANGE', keys[3 + r], writes[r][w], writes[r][w + 1])
    end
    entry[#entry + 1] = names[r]
    entry[#entry + 1] = changes[r]
    if r == rows or #entry >= MOST_ARGUMENTS then
      local sequence = redis.call('HINCRBY', keys[1], 'sequence', 1)
      local heard = r == rows and times or ''
      redis.call('XADD', keys[2], 'MAXLEN', '~', stream_length, '*', 'sequence', sequence, 'times', heard, unpack(entry))
      entry = {}
    end
  end
  for u = 1, users do
    remember(keys[3 + rows + u], slates, begins[u], u <= seen and most_seen or most_answered, life)
  end
  for a, count in pairs(counts) do
    redis.call('HINCRBY', keys[3], args[a], count)
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
