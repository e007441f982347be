package queue

import (
	"context"
	"errors"
	"slices"
	"time"
)

// A message that must be on disk, or on replicas, before it counts as accepted is
// put in hidden: it is delayed by hideTime, which is longer than Enqueue takes. Then
// the node is asked to wait for its disk or replicas, on the same connection.
//
//	reached      it is shown: made ready, or delayed as it was to be
//	not reached  it is taken out again, before anyone could be given it
//	no answer    it is taken out if it can be; else it shows itself when hideTime is
//	             over, if it is there, and nobody can know
//
// Who comes meanwhile with the same key or id is told that it is in when the node
// says that it is durable, and has promised then that it stays: whoever put it in, for
// whom it may not have been, leaves it. If that one was quicker, it is put in anew.
//
// What is durable is the hidden message: should the node fall right after, it
// comes back with it, and shows it in time.
//
// A node with appendfsync always has all on its disk before it answers, so that
// nothing has to be hidden; that it still has is asked with each pipeline.
const hideTime = 5 * time.Second

// A hidden is one delivery that was put in hidden. It has all that is needed of the
// message: whoever put that in may be gone, and do with it what they like.
type hidden struct {
	parcel *parcel
	named  bool   // by the client
	dedup  string // its dedup key on the node
	id     string
	rid    string
	delay  time.Duration // that it has anyway
	order  string
	lane   string
}

// hideFor returns how long a message is hidden where p is put now.
func (c *Client) hideFor(p *parcel) time.Duration {
	if !p.partition.durability.hides() {
		return 0
	}
	return hideTime
}

// hiddenOf returns what is hidden of a parcel.
func (c *Client) hiddenOf(p *parcel) []hidden {
	out := make([]hidden, len(c.o.Destinations))
	for i, destination := range c.o.Destinations {
		out[i] = hidden{
			p, p.m.ID != "", p.partition.keys.dedup(p.m.DedupKey),
			p.id, recordID(p.id, destination), p.m.Delay, orderHash(destination, p.m.OrderKey), lane(destination, c.class(p.m)),
		}
	}
	return out
}

// luaWaits defines waitsAt(), which finds a message among what waits for its order key:
// its index, its entry as it lies there, and what that says. So many of behind came after
// it, about. What waits may be many thousands, through which nobody looks: it is read from
// there on towards the beginning, and all of it only if the message is not found.
const luaWaits = `
local function waitsFrom(waiting, id, last)
  local size, page = 4, nil
  repeat
    size = math.min(2 * size, 64)
    page = redis.call('LRANGE', waiting, last - size + 1, last)
    for i = #page, 1, -1 do
      local e = string.find(page[i], id, 1, true) and unpacked(page[i])
      if e and e[2] == 'i' and e[3] == id then return last - #page + i, page[i], e end
    end
    last = last - size
  until #page < size
end
local function waitsAt(waiting, id, behind)
  local at, packed, e = waitsFrom(waiting, id, -1 - behind)
  if at or behind == 0 then return at, packed, e end
  return waitsFrom(waiting, id, -1)
end
`

// showScript shows what is hidden.
//
//	KEYS[1]  what is delayed
//	KEYS[2]  T:l
//	KEYS[3]… streams of all lanes; for each record its key, and the list of what waits for its order key
//	ARGV[1]  number of lanes
//	ARGV[2]… names of the lanes; for each record: record id, for how many ms it is delayed in truth, the message's id or,
//	         where it has no order key, nothing, and about how many came after it that wait for that
//
// It returns how many it has shown. What has come to its turn meanwhile is not hidden longer
// than that says, and is left alone.
const showSource = luaLanes + luaWaits + `
local lanes, n = lanesAt(2, 1)
local shown = 0
-- What waits must not wait longer than its turn.
local function showWaiting(waiting, id, delay, behind)
  local at, _, e = waitsAt(waiting, id, behind)
  local t
  for i = 2, at and #e or 0, 2 do
    if e[i] == 't' then t = e[i+1] end
    if e[i] == 'd' then
      if delay > 0 then
        e[i+1] = string.format('%.0f', t + delay)
      else
        table.remove(e, i)
        table.remove(e, i)
      end
      redis.pcall('LSET', waiting, at, cmsgpack.pack(e)) -- a user that may not has it wait, as it is
      return 1
    end
  end
  return 0
end
for i = 2 + n, #ARGV, 4 do
  local rid, delay, key = ARGV[i], tonumber(ARGV[i+1]), 3 + n + (i - 2 - n) / 2
  local record = KEYS[key]
  if redis.call('ZSCORE', KEYS[1], rid) then
    shown = shown + 1
    local e, state = {}, {}
    local all = redis.call('HGETALL', record)
    for j = 1, #all, 2 do
      state[all[j]] = all[j+1]
      if #all[j] > 1 or not string.find('sgqruvp', all[j], 1, true) then
        e[#e+1] = all[j]
        e[#e+1] = all[j+1]
      end
    end
    if delay > 0 then
      redis.call('ZADD', KEYS[1], 'XX', string.format('%.0f', state.t + delay), rid)
    else
      local q = add(lanes, state.g, e)
      redis.call('ZREM', KEYS[1], rid)
      if state.k == '1' or state.c then
        redis.call('HSET', record, 's', 'ready', 'q', q)
        redis.call('HDEL', record, 'o', 'x', 'z', 'n', '__data__')
      else
        redis.call('UNLINK', record)
      end
    end
  elseif ARGV[i+2] ~= '' then
    shown = shown + showWaiting(KEYS[key+1], ARGV[i+2], delay, tonumber(ARGV[i+3]))
  end
end
return shown
`

// takeOutScript takes a message out that must not be delivered, unless somebody
// else was promised that it is.
//
//	KEYS[1]  what is delayed
//	KEYS[2]  counters
//	KEYS[3]  orders
//	KEYS[4]  the dedup key, or any
//	KEYS[5]  T:l
//	KEYS[6]… streams of all lanes; for each delivery its record and the list of what waits for its order key; the chunks
//	ARGV[1]  id
//	ARGV[2]  how many of an order key may be in flight
//	ARGV[3]  bytes that each delivery counts for
//	ARGV[4]  the group
//	ARGV[5]  number of lanes
//	ARGV[6]… names of the lanes; for each delivery: record id, order hash or empty, its lane
//
// It returns how many deliveries it has taken out.
var takeOutScript = newScript(luaOrder + luaWaits + `
local lanes, n = lanesAt(5, 5)
local out, deliveries = 0, (#ARGV - 5 - n) / 3
local dedup = redis.call('GET', KEYS[4]) or ''
local ours = string.sub(dedup, 1, #ARGV[1] + 1) == ARGV[1] .. ' '
if ours and string.sub(dedup, -1) == '+' then return 0 end
for i = 0, deliveries - 1 do
  if redis.call('HEXISTS', KEYS[6 + n + 2*i], 'p') == 1 then return 0 end
end
local function takeFromList(waiting)
  local at, packed = waitsAt(waiting, ARGV[1], 0)
  return at and redis.call('LREM', waiting, -1, packed) or 0
end
-- What waited may have come to its turn already, and is hidden there.
local function takeFromStreams(order)
  for i = 6, 5 + n do
    for _, entry in ipairs(redis.call('XREVRANGE', KEYS[i], '+', '-', 'COUNT', 50)) do
      local e = {}
      for j = 1, #entry[2], 2 do e[entry[2][j]] = entry[2][j+1] end
      if e.i == ARGV[1] and e.o == order and e.d then
        redis.pcall('XACK', KEYS[i], ARGV[4], entry[1])
        return redis.call('XDEL', KEYS[i], entry[1])
      end
    end
  end
  return 0
end
for i = 0, deliveries - 1 do
  local at = 6 + n + 3*i
  local rid, order, own = ARGV[at], ARGV[at+1], ARGV[at+2]
  local record, waiting = KEYS[6 + n + 2*i], KEYS[7 + n + 2*i]
  local taken = redis.call('ZREM', KEYS[1], rid)
  local counted = order ~= ''
  if taken == 0 and counted then
    taken = takeFromList(waiting)
    if taken == 1 then
      decount(KEYS[2], 'w', 1)
      counted = false
    else
      taken = takeFromStreams(order)
    end
  end
  if taken == 1 and counted then advance(order, KEYS[3], waiting, KEYS[2], tonumber(ARGV[2]), lanes, own) end
  if taken == 1 then
    redis.call('UNLINK', record)
    if ARGV[3] ~= '0' then decount(KEYS[2], 'b', ARGV[3]) end
    out = out + 1
  end
end
if out > 0 then
  for i = 6 + n + 2*deliveries, #KEYS do redis.call('UNLINK', KEYS[i]) end
end
if ours then redis.call('UNLINK', KEYS[4]) end
return out
`)

// show shows what was hidden if it is durable, and takes it out again if not, or
// if the node did not say that it is there: it will be put in elsewhere, or
// refused. What a caller left does not count as accepted either.
func (p *partition) show(ctx context.Context, batch []*sending, durable bool) {
	var shown, out []*call
	behind := map[string]int{}                 // how many of an order key came after it
	for _, s := range slices.Backward(batch) { // what waits for another one's turn is out before that
		in, known := s.isIn()
		switch {
		case s.hidden == nil:
		case in && durable && !p.combiner.wasLeft(s):
			shown = append(shown, s.showCall(p, behind))
		case in, !known && !s.hidden[0].named:
			out = append(out, s.takeOutCall(p))
		}
	}
	ctx = context.WithoutCancel(ctx)
	// What cannot be shown now shows itself: it is there, and durable.
	slices.Reverse(shown)
	for _, calls := range [][]*call{shown, out} {
		if len(calls) > 0 && !p.resting() {
			p.report(ctx, runAll(ctx, p, calls))
		}
	}
}

var showScript = newScript(showSource)

// isIn reports whether a sending put a message in, and whether the node said so
// or otherwise.
func (s *sending) isIn() (in, known bool) {
	if err := s.cmds[0].Err(); err != nil {
		return false, connectionError(err) == nil || errors.Is(err, ErrDurability)
	}
	e, err := parseEnqueued(s.cmds[0].(once).Cmd)
	return err == nil && e.what == "in", err == nil
}

// showCall returns what shows a sending's message. It adds the message to those that
// are behind the others of its order key.
func (s *sending) showCall(p *partition, behind map[string]int) *call {
	keys, args := p.laneKeys(p.owner.lanes)
	keys = append([]string{p.keys.delayed()}, keys...)
	for _, h := range s.hidden {
		id := ""
		if h.order != "" {
			id = h.id
		}
		keys = append(keys, p.keys.record(h.rid), p.keys.order(h.order))
		args = append(args, h.rid, h.delay.Milliseconds(), id, behind[h.order])
		behind[h.order]++
	}
	return &call{script: showScript, keys: keys, args: args}
}

// takeOutCall returns what takes a sending's message out. Where the node fails
// just then, it may be delivered although it was refused.
func (s *sending) takeOutCall(p *partition) *call {
	parcel, k := s.hidden[0].parcel, p.keys
	keys := []string{k.delayed(), k.counters(), k.orders(), s.hidden[0].dedup}
	lanes, names := p.laneKeys(p.owner.lanes)
	keys = append(keys, lanes...)
	args := append([]any{parcel.id, p.owner.o.PerKey, p.owner.counted(parcel), group}, names...)
	for _, h := range s.hidden {
		keys = append(keys, k.record(h.rid), k.order(h.order))
		args = append(args, h.rid, h.order, h.lane)
	}
	chunks := p.owner.chunkKeys(k, parcel)
	return &call{script: takeOutScript, keys: append(keys, chunks[len(chunks)/2:]...), args: args}
}
