package queue

import (
	"context"
	"slices"
)

// The turns of order keys are counted in T:o. Who deletes entries behind the
// queue's back (XDEL, XTRIM, another producer's MAXLEN, a server that evicts a
// stream) takes turns along that nobody ends, and what waits for them would wait for
// ever. So they are counted anew, now and then: of order keys that two looks in a row
// have found, and where so little is on the partition that one script can do it. What is
// counted in T:c goes when nothing is left that it could be of.

const (
	// turnsOfEntries and turnsOfDelayed bound how many entries, and delayed messages,
	// are looked through for their order keys, and turnsOfBytes how long those entries are.
	turnsOfEntries, turnsOfDelayed = 100, 1000
	turnsOfBytes                   = 4 << 20
)

// turnsScript returns the order keys that have turns, and the record ids of what is
// delayed; two empty lists where there is too much to count. Where there is nothing at
// all it deletes the counts.
//
//	KEYS[1]  orders
//	KEYS[2]  what is delayed
//	KEYS[3]  counters
//	KEYS[4]  T:l
//	KEYS[5]… streams of all lanes
//	ARGV[1]  most entries
//	ARGV[2]  most that is delayed
//	ARGV[3]  number of lanes
//	ARGV[4]… their names
var turnsScript = newScript(luaLanes + `
local delayed, entries, ordered = redis.call('ZCARD', KEYS[2]), 0, redis.call('EXISTS', KEYS[1]) == 1
local lanes, n = lanesAt(4, 3)
for i = 5, 4 + n do entries = entries + redis.call('XLEN', KEYS[i]) end
if not ordered and delayed + entries == 0 and redis.call('EXISTS', KEYS[3]) == 1 then
  for _, name in ipairs(redis.call('HKEYS', KEYS[4])) do
    if not lanes.streams[name] then return {{}, {}} end
  end
  redis.call('UNLINK', KEYS[3])
end
if not ordered or delayed > tonumber(ARGV[2]) or entries > tonumber(ARGV[1]) then return {{}, {}} end
return {redis.call('HKEYS', KEYS[1]), redis.call('ZRANGE', KEYS[2], 0, -1)}
`)

// recountScript counts the turns of order keys anew, and makes ready what has waited for
// those that are gone. It does nothing if there is more on the partition than it was told of.
//
//	KEYS[1]  orders
//	KEYS[2]  counters
//	KEYS[3]  what is delayed
//	KEYS[4]  T:l
//	KEYS[5]… streams of all lanes; the records of what is delayed; for each order key the list of what waits for it
//	ARGV[1]  how many of an order key may be in flight
//	ARGV[2]  most bytes to look through
//	ARGV[3]  how much is delayed
//	ARGV[4]  number of lanes
//	ARGV[5]… their names; the record ids of what is delayed; the order keys
//
// It returns how many turns were gone.
var recountScript = newScript(luaOrder + `
local lanes, n = lanesAt(4, 4)
local delayed, left = tonumber(ARGV[3]), tonumber(ARGV[2])
for _, name in ipairs(redis.call('HKEYS', KEYS[4])) do
  if not lanes.streams[name] then return 0 end
end
if redis.call('ZCARD', KEYS[3]) ~= delayed then return 0 end
local turns = {}
local function turn(order) turns[order] = (turns[order] or 0) + 1 end
for i = 5 + n, 4 + n + delayed do
  if not redis.call('ZSCORE', KEYS[3], ARGV[i]) then return 0 end
  local order = redis.pcall('HGET', KEYS[i], 'o')
  if type(order) == 'string' then turn(order) end
end
for i = 5, 4 + n do
  local from, page = '-', nil
  repeat
    page = redis.call('XRANGE', KEYS[i], from, '+', 'COUNT', 10)
    for _, entry in ipairs(page) do
      local order, framed = nil, false
      for j = 1, #entry[2], 2 do
        if entry[2][j] == 'o' then order = entry[2][j+1] end
        if entry[2][j] == '__data__' then framed = true end
        left = left - #entry[2][j+1]
      end
      if order and framed then turn(order) end
      from = '(' .. entry[1]
    end
    if left < 0 then return 0 end
  until #page < 10
end
local function destination(name) return string.match(name, '^([^/]*)/') or '' end
local function laneOf(waiting)
  local first = redis.call('LINDEX', waiting, 0)
  if not first then return ARGV[5] end -- none is asked for
  local e = unpacked(first)
  if not e then return ARGV[5] end -- it goes without one
  local of = destination(e[1])
  for i = 5, 4 + n do
    if destination(ARGV[i]) == of then return ARGV[i] end
  end
end
local gone = 0
for i = 5 + n + delayed, #ARGV do
  local order, own = ARGV[i], laneOf(KEYS[i])
  local is, was = turns[order] or 0, tonumber(redis.call('HGET', KEYS[1], order)) or 0
  if is < was and own then
    gone = gone + was - is
    redis.call('HSET', KEYS[1], order, is + 1) -- one of which ends here
    advance(order, KEYS[1], KEYS[i], KEYS[2], tonumber(ARGV[1]), lanes, own)
  end
end
return gone
`)

// mendTurns sees to order keys whose turns are gone.
func (s *source) mendTurns(ctx context.Context) error {
	if !s.p.taken.turns.Load() {
		s.p.taken.ordersAgain(nil)
		return nil
	}
	lanes, args := s.p.laneKeys(s.p.lanes())
	keys := append([]string{s.p.keys.orders(), s.p.keys.delayed(), s.p.keys.counters()}, lanes...)
	res, err := turnsScript.run(ctx, s.p, keys, append([]any{turnsOfEntries, turnsOfDelayed}, args...)...).Slice()
	if err != nil || len(res) != 2 {
		return err
	}
	orders, _ := res[0].([]any)
	delayed, _ := res[1].([]any)
	again := s.p.taken.ordersAgain(strs(orders))
	if len(again) == 0 {
		return nil
	}
	keys = append([]string{s.p.keys.orders(), s.p.keys.counters(), s.p.keys.delayed()}, lanes...)
	args = append([]any{s.w.client.o.PerKey, turnsOfBytes, len(delayed)}, args...)
	for _, rid := range strs(delayed) {
		keys, args = append(keys, s.p.keys.record(rid)), append(args, rid)
	}
	for part := range slices.Chunk(again, noteMost) {
		keys, args := slices.Clone(keys), slices.Clone(args)
		for _, order := range part {
			keys, args = append(keys, s.p.keys.order(order)), append(args, order)
		}
		if err := recountScript.run(ctx, s.p, keys, args...).Err(); err != nil {
			return err
		}
	}
	return nil
}

// ordersAgain takes the order keys that have turns, and returns those that had some at
// the last look too.
func (t *taken) ordersAgain(orders []string) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	was := t.orders
	slices.Sort(orders)
	t.orders = orders
	return slices.DeleteFunc(slices.Clone(orders), func(o string) bool {
		_, is := slices.BinarySearch(was, o)
		return !is
	})
}
