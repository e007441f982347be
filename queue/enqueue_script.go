package queue

import (
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// luaCount defines count(), how much of a backlog a partition has: messages,
// bytes, and where it is asked for, the age of the oldest that is ready in the first
// aged of the streams, in ms. Where there is no message there are no bytes, whatever the
// counter says: other programs that take messages, or delete them, leave theirs in it.
const luaCount = `
local function oldest(stream, group, now)
  local after = '-'
  local groups = redis.pcall('XINFO', 'GROUPS', stream)
  if groups.err then return 0 end
  for _, g in ipairs(groups) do
    local name, last
    for i = 1, #g, 2 do
      if g[i] == 'name' then name = g[i+1] elseif g[i] == 'last-delivered-id' then last = g[i+1] end
    end
    if name == group then
      local ms, seq = string.match(last, '^(%d+)%-(%d+)$')
      after = ms .. '-' .. string.format('%.0f', seq + 1)
    end
  end
  local first = redis.call('XRANGE', stream, after, '+', 'COUNT', 1)[1]
  if not first then return 0 end
  local at = tonumber(string.match(first[1], '^%d+'))
  for i = 1, #first[2], 2 do
    if first[2][i] == 't' then at = tonumber(first[2][i+1]) or at end
  end
  return math.max(now - at, 1)
end

local function count(delayed, counters, streams, aged, group, now)
  local c = redis.call('HMGET', counters, 'w', 'b')
  local n, age = redis.call('ZCARD', delayed) + (tonumber(c[1]) or 0), 0
  for i, stream in ipairs(streams) do
    n = n + redis.call('XLEN', stream)
    if group ~= '' and i <= aged then age = math.max(age, oldest(stream, group, now)) end
  end
  return n, n > 0 and tonumber(c[2]) or 0, age
end
`

// countScript counts for the backlog.
//
//	KEYS[1]  what is delayed
//	KEYS[2]  counters
//	KEYS[3]… streams of all lanes, the abandoned ones last
//	ARGV[1]  the group, if the oldest message's age is wanted
//	ARGV[2]  how many lanes are not abandoned
//
// It returns messages, bytes, and the age of the oldest that is ready, in ms.
var countScript = newScript(luaNow + luaCount + `
local streams = {}
for i = 3, #KEYS do streams[i-2] = KEYS[i] end
return {count(KEYS[1], KEYS[2], streams, tonumber(ARGV[2]), ARGV[1], now())}
`)

// enqueueSource puts one message in, for all destinations or none. It writes
// nothing before it has refused what is to be refused. Its first write needs
// memory, so that a full node has written nothing either.
//
//	KEYS[1]  what is delayed
//	KEYS[2]  counters
//	KEYS[3]  orders
//	KEYS[4]  the dedup key, or any
//	KEYS[5]  T:l
//	KEYS[6]… streams of all lanes, the abandoned ones last; for each delivery its record and the list of what waits for its order key; the chunks, and how they are called when the message is in
//	ARGV[1]  id
//	ARGV[2]  digest of the body
//	ARGV[3]  for how many ms the dedup key stands; 0: no dedup
//	ARGV[4]  for how many ms it is delayed
//	ARGV[5]  for how many ms it may be delivered; 0: for ever
//	ARGV[6]  1: tracked
//	ARGV[7]  how many of an order key may be in flight
//	ARGV[8]  most messages that may be here then; -1: any number
//	ARGV[9]  most bytes that may be here then; -1: any number
//	ARGV[10] oldest age in ms of a message that is ready; -1: any age
//	ARGV[11] bytes that each delivery counts for; 0: they are not counted
//	ARGV[12] for how many ms it is hidden, if it is not delayed for longer
//	ARGV[13] bytes of its body, if that lies in chunks
//	ARGV[14] ref of the partition with the second copy, or empty
//	ARGV[15] the group
//	ARGV[16] how many lanes are not abandoned: what lies in others makes nothing too old
//	ARGV[17] the frame
//	ARGV[18] number of lanes
//	ARGV[19]… names of the lanes; for each delivery: record id, name of its lane, order hash or empty
//
// It returns what came of it, the id (of the earlier message, where there was
// one), and how much is here now: messages, bytes, the oldest's age.
const enqueueSource = luaNow + luaCount + luaOrder + `
local lanes, many = lanesAt(5, 18)
local deliveries = {}
for i = 19 + many, #ARGV, 3 do
  local n = #deliveries
  deliveries[n+1] = {rid = ARGV[i], lane = ARGV[i+1], order = ARGV[i+2],
    record = KEYS[6+many+2*n], waiting = KEYS[7+many+2*n]}
end

-- What is there already may be hidden yet. It is written as it is: behind a write a
-- WAIT is about what is there.
if ARGV[3] ~= '0' then
  local is = redis.call('GET', KEYS[4]) or ''
  local id, sum = string.match(is, '^(.*) ([^ +]+)%+?$')
  if sum and sum ~= ARGV[2] then return {'mismatch', id, -1, -1, -1} end
  if sum then
    if ARGV[12] ~= '0' then redis.call('SET', KEYS[4], is, 'PX', math.max(1, redis.call('PTTL', KEYS[4]))) end
    return {'replayed', id, -1, -1, -1}
  end
end
-- For one destination it may be done, and known no more, and for another one not.
if ARGV[6] == '1' then
  for _, d in ipairs(deliveries) do
    local was = redis.call('HMGET', d.record, 's', 'u')
    if was[1] and (was[2] or ARGV[2]) ~= ARGV[2] then return {'mismatch', ARGV[1], -1, -1, -1} end
    if was[1] then
      if ARGV[12] ~= '0' then redis.call('HSET', d.record, 's', was[1]) end
      return {'replayed', ARGV[1], -1, -1, -1}
    end
  end
end

local t = now()
local messages, bytes, age, stale = -1, -1, -1, false
if ARGV[8] ~= '-1' or ARGV[9] ~= '-1' or ARGV[10] ~= '-1' then
  local streams = {}
  for i = 1, many do streams[i] = KEYS[5+i] end
  messages, bytes, age = count(KEYS[1], KEYS[2], streams, tonumber(ARGV[16]), ARGV[10] ~= '-1' and ARGV[15] or '', t)
  local more = #deliveries
  stale = messages == 0 -- what the counter of bytes says
  if ARGV[8] ~= '-1' and messages + more > tonumber(ARGV[8])
    or ARGV[9] ~= '-1' and bytes + more * ARGV[11] > tonumber(ARGV[9])
    or ARGV[10] ~= '-1' and age > tonumber(ARGV[10]) then
    return {'full', ARGV[1], messages, bytes, age}
  end
  messages, bytes = messages + more, bytes + more * ARGV[11]
end
local chunk = 6 + many + 2 * #deliveries
local chunks = (#KEYS - chunk + 1) / 2
for i = chunk, chunk + chunks - 1 do
  if redis.call('EXISTS', KEYS[i]) == 0 then return {'torn', ARGV[1], -1, -1, -1} end
end

local function ms(n) return string.format('%.0f', n) end
local due = t + math.max(ARGV[4], ARGV[12])
if ARGV[3] ~= '0' then redis.call('SET', KEYS[4], ARGV[1] .. ' ' .. ARGV[2], 'PX', ARGV[3]) end
-- What waits here under its name is the message itself, which came without an answer
-- before: counted twice for its order key, it would hold that up for ever.
local missing = {}
for _, d in ipairs(deliveries) do
  if due == t or not redis.call('ZSCORE', KEYS[1], d.rid) then missing[#missing+1] = d end
end
for _, d in ipairs(missing) do
  local e = {'i', ARGV[1]}
  local function field(name, value) e[#e+1] = name; e[#e+1] = value end
  if due > t or d.order ~= '' then field('t', ms(t)) end
  if ARGV[5] ~= '0' then field('x', ms(t + ARGV[5])) end
  if d.order ~= '' then field('o', d.order) end
  if ARGV[11] ~= '0' then field('z', ARGV[11]) end
  if ARGV[13] ~= '0' then field('n', ARGV[13]) end
  if ARGV[6] == '1' then field('k', '1') end
  if ARGV[14] ~= '' then field('c', ARGV[14]) end
  local recorded = ARGV[6] == '1' or ARGV[14] ~= ''
  local function record(...)
    redis.call('HSET', d.record, 's', 'ready', 'g', d.lane, 'u', ARGV[2], 'i', ARGV[1], 't', ms(t), 'k', ARGV[6], ...)
    if ARGV[14] ~= '' then redis.call('HSET', d.record, 'c', ARGV[14]) end
  end

  local inflight = d.order ~= '' and tonumber(redis.call('HGET', KEYS[3], d.order) or 0) or 0
  if d.order ~= '' and (inflight >= tonumber(ARGV[7]) or redis.call('EXISTS', d.waiting) == 1) then
    if due > t then field('d', ms(due)) end
    field('__data__', ARGV[17])
    redis.call('RPUSH', d.waiting, cmsgpack.pack({d.lane, unpack(e)}))
    addTo(KEYS[2], 'w', 1)
    if recorded then record() end
    -- More may be in flight than could when the list began.
    while inflight < tonumber(ARGV[7]) do
      local packed = redis.call('LPOP', d.waiting)
      if not packed then break end
      local first = unpacked(packed)
      if first then
        decount(KEYS[2], 'w', 1)
        local name = table.remove(first, 1)
        add(lanes, lanes.streams[name] and name or d.lane, first)
        inflight = addTo(KEYS[3], d.order, 1)
      end
    end
  else
    if d.order ~= '' then addTo(KEYS[3], d.order, 1) end
    field('__data__', ARGV[17])
    if due > t then
      redis.call('HSET', d.record, 's', 'delayed', 'g', d.lane, 'u', ARGV[2], unpack(e))
      redis.call('ZADD', KEYS[1], ms(due), d.rid)
    else
      local q = add(lanes, d.lane, e)
      if recorded then record('q', q) end
    end
  end
  if ARGV[11] ~= '0' then
    if stale then redis.call('HDEL', KEYS[2], 'b') end
    stale = false
    addTo(KEYS[2], 'b', ARGV[11])
  end
end
for i = chunk, chunk + chunks - 1 do
  if KEYS[i] ~= KEYS[i+chunks] then redis.call('RENAME', KEYS[i], KEYS[i+chunks]) end
  redis.call('PERSIST', KEYS[i+chunks])
end
return {'in', ARGV[1], messages, bytes, age}
`

var enqueueScript = redis.NewScript(enqueueSource)

// errAnswer: a node answers what it should not.
var errAnswer = errors.New("queue: an answer that was not expected")

// An enqueued is what enqueueScript returned.
type enqueued struct {
	what     string // in, replayed, mismatch, full, torn
	id       string
	messages int64 // in the backlog; -1: not counted
	bytes    int64
	ageMS    int64
}

// parseEnqueued reads what enqueueScript returned.
func parseEnqueued(cmd *redis.Cmd) (e enqueued, err error) {
	res, err := cmd.Slice()
	if err != nil {
		return e, err
	}
	bad := len(res) != 5
	if !bad {
		var ok [5]bool
		e.what, ok[0] = res[0].(string)
		e.id, ok[1] = res[1].(string)
		e.messages, ok[2] = res[2].(int64)
		e.bytes, ok[3] = res[3].(int64)
		e.ageMS, ok[4] = res[4].(int64)
		bad = ok != [5]bool{true, true, true, true, true}
	}
	if bad {
		return e, fmt.Errorf("%w: %v", errAnswer, res)
	}
	return e, nil
}
