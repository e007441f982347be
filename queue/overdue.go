package queue

import (
	"context"
	"strconv"

	"github.com/redis/go-redis/v9"
)

// An overdueCopy is a second copy of whose first nothing was heard.
type overdueCopy struct {
	recordID string
	from     string // ref of where the first is
	order    string
	size     int64 // of its body, if that lies in chunks
	lane     string
	dead     bool // it knows that it is of a dead letter
	first    fate
	copy     string    // ref of where a first that is there has its copy; empty: nowhere
	died     *obituary // of a first that is a dead letter
}

// A fate is what has become of the first copy.
type fate uint8

const (
	fateLost      fate = iota // its node has lost it, or is away for long
	fateThere                 // it is there
	fateDead                  // it is there as a dead letter
	fateDone                  // it is done
	fateElsewhere             // it is there, and has its copy on another node
	fateAway                  // its node is away, but not for long
)

// overdueCopies sees to second copies that are overdue on this partition, for
// as long as there is something to do.
func (s *source) overdueCopies(ctx context.Context) error {
	for ctx.Err() == nil {
		limit := strconv.FormatInt(s.p.taken.nodeTime().UnixMilli(), 10)
		ids, err := s.p.client().ZRangeArgs(s.p.with(ctx), redis.ZRangeArgs{
			Key: s.p.keys.seconds(), ByScore: true, Start: "-inf", Stop: limit, Count: noteMost,
		}).Result()
		if err != nil || len(ids) == 0 {
			return err
		}
		copies, err := s.overdueOnes(ctx, ids)
		if err != nil {
			return err
		}
		waiting, err := s.seeToCopies(ctx, copies)
		if err != nil || waiting || len(ids) < noteMost {
			return err
		}
	}
	return nil
}

// overdueOnes reads what is to be known of copies, and asks for their firsts.
func (s *source) overdueOnes(ctx context.Context, ids []string) ([]*overdueCopy, error) {
	pipe := s.p.client().Pipeline()
	cmds := make([]*redis.SliceCmd, len(ids))
	for i, id := range ids {
		cmds[i] = pipe.HMGet(s.p.with(ctx), s.p.keys.second(id), "c", "o", "n", "s", "g")
	}
	if err := readAll(s.p.with(ctx), pipe); err != nil {
		return nil, err
	}
	copies := make([]*overdueCopy, len(ids))
	by := map[string][]*overdueCopy{}
	for i, id := range ids {
		f := textsOf(cmds[i], 5)
		c := &overdueCopy{recordID: id, from: f[0], order: f[1], dead: f[3] == stateDead, lane: f[4]}
		c.size, _ = strconv.ParseInt(f[2], 10, 64)
		c.size = max(0, min(c.size, maxChunked))
		copies[i] = c
		by[c.from] = append(by[c.from], c)
	}
	for ref, cs := range by {
		s.askFirsts(ctx, s.w.client.byRef(ref), cs)
		s.askOthers(ctx, cs)
	}
	return copies, nil
}

// askFirsts asks a partition what has become of messages.
func (s *source) askFirsts(ctx context.Context, first *partition, cs []*overdueCopy) {
	if first == nil {
		return // configured away
	}
	silent := first.taken.silentFor()
	pipe := first.client().Pipeline()
	tombstones, records := make([]*redis.IntCmd, len(cs)), make([]*redis.SliceCmd, len(cs))
	for i, c := range cs {
		tombstones[i] = pipe.Exists(first.with(ctx), first.keys.tombstone(c.recordID))
		records[i] = pipe.HMGet(first.with(ctx), first.keys.record(c.recordID), "s", "a", "l", "e", "r", "c")
	}
	var err error
	if !first.resting() {
		err = readAll(first.with(ctx), pipe)
		first.report(ctx, err)
	}
	asked := !first.resting() && err == nil
	for i, c := range cs {
		f := textsOf(records[i], 6)
		c.copy = f[5]
		switch state := f[0]; {
		case !asked && (silent < s.w.client.o.Visibility || c.dead && silent < copyOfDead):
			c.first = fateAway
		case !asked:
			c.first = fateLost
		case state == stateDead:
			c.first, c.died = fateDead, &obituary{lastError: f[3], reason: f[4]}
			c.died.attempts, _ = strconv.Atoi(f[1])
			c.died.status, _ = strconv.Atoi(f[2])
		case state != "" && state != stateDone:
			c.first = fateThere // a tombstone beside it is of an earlier message with its id
		case tombstones[i].Val() > 0 || state == stateDone:
			c.first = fateDone
		}
	}
}

// askOthers finds out which copies nobody knows of: their node did not say that it has
// them, so that another one was given the copy, and has it. When the first is done, or
// was dropped, nobody would tell these.
func (s *source) askOthers(ctx context.Context, cs []*overdueCopy) {
	by := map[*partition][]*overdueCopy{}
	for _, c := range cs {
		other := s.w.client.byRef(c.copy)
		if (c.first == fateThere || c.first == fateDead) && other != nil && other != s.p && !other.resting() {
			by[other] = append(by[other], c)
		}
	}
	for other, cs := range by {
		pipe := other.client().Pipeline()
		cmds := make([]*redis.IntCmd, len(cs))
		for i, c := range cs {
			cmds[i] = pipe.Exists(other.with(ctx), other.keys.second(c.recordID))
		}
		_, err := pipe.Exec(other.with(ctx))
		other.report(ctx, err)
		for i, c := range cs {
			if err == nil && cmds[i].Val() == 1 {
				c.first = fateElsewhere
			}
		}
	}
}

// seeToCopies does to copies what the fate of their firsts asks for, and
// reports whether some of them still wait for it.
func (s *source) seeToCopies(ctx context.Context, copies []*overdueCopy) (waiting bool, err error) {
	var push []any
	var gone []goneCopy
	var revived []string
	orphans := false // that are dead letters, without a copy
	var calls []*call
	dead, done := map[string]*obituary{}, map[*partition][]string{}
	for _, c := range copies {
		switch c.first {
		case fateAway:
			if c.dead { // nobody is in need of it, and others are overdue
				push = append(push, c.recordID, (2 * choresEvery).Milliseconds())
				continue
			}
			waiting = true
		case fateThere:
			if c.dead {
				revived = append(revived, c.recordID)
				continue
			}
			push = append(push, c.recordID, s.w.client.o.overdueAfter(0).Milliseconds())
		case fateDead:
			dead[c.recordID] = c.died
		case fateElsewhere:
			gone = append(gone, goneCopy{c.recordID, c.size})
		case fateDone:
			gone = append(gone, goneCopy{c.recordID, c.size})
			first := s.w.client.byRef(c.from)
			done[first] = append(done[first], first.keys.tombstone(c.recordID))
		case fateLost:
			orphans = orphans || c.dead
			calls = append(calls, s.promoteCopyCall(c))
		}
	}
	if len(push) > 0 {
		calls = append(calls, &call{script: pushScript, keys: []string{s.p.keys.seconds()}, args: push})
	}
	if len(revived) > 0 {
		calls = append(calls, s.p.reviveCall(revived, s.w.client.o.overdueAfter(0)))
	}
	if len(dead) > 0 {
		calls = append(calls, s.p.buryCall(dead))
	}
	if len(gone) > 0 {
		calls = append(calls, s.p.deleteCopiesCall(gone...))
	}
	if err := runEach(ctx, s.p, calls); err != nil {
		return waiting, err
	}
	if orphans {
		s.p.taken.wantsMending(0)
	}
	for first, tombstones := range done {
		if err := first.client().Unlink(first.with(ctx), tombstones...).Err(); err != nil {
			return waiting, err
		}
	}
	return waiting, nil
}

// promoteCopyScript makes a second copy that is overdue a message of its own.
//
//	KEYS[1]  T:y
//	KEYS[2]  the copy
//	KEYS[3]  record
//	KEYS[4]  counts
//	KEYS[5]  orders
//	KEYS[6]  list of what waits for its order key
//	KEYS[7]  dead letters
//	KEYS[8]  T:l
//	KEYS[9]… streams of all lanes
//	ARGV[1]  record id
//	ARGV[2]  how many of an order key may be in flight
//	ARGV[3]  number of lanes
//	ARGV[4]… their names
//
// It returns 1 if it is a message, or a dead letter, now.
var promoteCopyScript = newScript(luaNow + luaReady + luaLanes + luaPut + `
local due = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not due or tonumber(due) > now() then return 0 end
local copy = redis.pcall('HGETALL', KEYS[2]) -- an error has no fields
if #copy > 0 and redis.call('EXISTS', KEYS[3]) == 0 then
  local lanes = lanesAt(8, 3)
  local clean, u, dead = {}, '', false
  for i = 1, #copy, 2 do
    if copy[i] == 'u' then u = copy[i+1] end
    if copy[i] == 's' then dead = copy[i+1] == 'dead' end
    if copy[i] ~= 'c' and copy[i] ~= 'd' and copy[i] ~= 'p' then
      clean[#clean+1] = copy[i]
      clean[#clean+1] = copy[i+1]
    end
  end
  if dead then
    redis.call('HSET', KEYS[3], unpack(clean))
    redis.call('ZADD', KEYS[7], string.format('%.0f', now()), ARGV[1])
  elseif not put(clean, KEYS[3], KEYS[4], KEYS[5], KEYS[6], tonumber(ARGV[2]), lanes, u) then
    return 0
  end
end
redis.call('UNLINK', KEYS[2])
redis.call('ZREM', KEYS[1], ARGV[1])
return 1
`)

// luaPut defines put(), which makes the message in a record ready, or has it
// wait for its order key, as if it were new. It returns the lane; where that is not
// known, it does nothing, and returns false.
const luaPut = `
local function put(record, key, counts, orders, waiting, perKey, lanes, digest)
  local e, lane, recorded = readiness(record)
  if not lanes.streams[lane] then return false end
  local order, tracked, id, at, counted, copy = '', '0', '', '0', nil, nil
  for i = 1, #e, 2 do
    if e[i] == 'o' then order = e[i+1]
    elseif e[i] == 'k' then tracked = e[i+1]
    elseif e[i] == 'i' then id = e[i+1]
    elseif e[i] == 't' then at = e[i+1]
    elseif e[i] == 'z' then counted = e[i+1]
    elseif e[i] == 'c' then copy = e[i+1] end
  end
  if counted then addTo(counts, 'b', counted) end
  local q = ''
  if order ~= '' and ((tonumber(redis.call('HGET', orders, order)) or 0) >= perKey or redis.call('EXISTS', waiting) == 1) then
    redis.call('RPUSH', waiting, cmsgpack.pack({lane, unpack(e)}))
    addTo(counts, 'w', 1)
  else
    if order ~= '' then addTo(orders, order, 1) end
    q = add(lanes, lane, e)
  end
  if recorded then
    redis.call('DEL', key)
    redis.call('HSET', key, 's', 'ready', 'g', lane, 'q', q, 'u', digest, 'i', id, 't', at, 'k', tracked)
    if copy then redis.call('HSET', key, 'c', copy) end
  else
    redis.call('UNLINK', key)
  end
  return lane
end
`

// promoteCopyCall makes a second copy that is overdue a message of its own.
func (s *source) promoteCopyCall(c *overdueCopy) *call {
	k := s.p.keys
	keys, names := s.p.laneKeys(s.p.lanesWith(c.lane))
	keys = append([]string{k.seconds(), k.second(c.recordID), k.record(c.recordID), k.counters(), k.orders(), k.order(c.order), k.dead()}, keys...)
	args := append([]any{c.recordID, s.w.client.o.PerKey}, names...)
	return &call{script: promoteCopyScript, keys: keys, args: args}
}
