package queue

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// lookEvery is how often a process looks at what is due on a partition, at
	// least: what others have put there it does not know.
	lookEvery = 500 * time.Millisecond
	// pauseEvery is how often it looks whether the queue is paused.
	pauseEvery = time.Second
	// choresEvery is how often it looks at second copies, at bounds of dead letters and at
	// turns, unless the visibility is shorter.
	choresEvery = 5 * time.Second
	// promoteMost bounds how many messages one script makes ready.
	promoteMost = 100
)

// look is the loop that makes ready what is due, until ctx ends. It is also what
// finds out that a partition is back: it asks it while it rests.
func (s *source) look(ctx context.Context) {
	t := &s.p.taken
	for ctx.Err() == nil {
		wait, wake := t.nextLook(lookEvery)
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-wake:
		case <-timer.C:
		}
		timer.Stop()
		if ctx.Err() == nil && t.looks(lookEvery) {
			s.trouble(ctx, "looking at what is due", s.lookOnce(ctx))
		}
	}
}

// lookOnce does what is to be done now.
func (s *source) lookOnce(ctx context.Context) error {
	if err := s.p.measure(ctx); err != nil {
		return err
	}
	head, some, err := s.head(ctx)
	if err != nil {
		return err
	}
	s.p.taken.hear()
	if some {
		if wait := time.UnixMilli(head).Sub(s.p.taken.nodeTime()); wait > 0 {
			s.p.taken.dueIn(wait)
		} else if err := s.promote(ctx); err != nil {
			return err
		}
	}
	return s.chores(ctx)
}

// head returns when the first of what is delayed is due, in ms of the node's
// clock, and whether anything is delayed. In the same round trip it looks, now and then,
// whether the queue is paused, and whether there is anything that mendTurns sees to.
func (s *source) head(ctx context.Context) (due int64, some bool, err error) {
	t := &s.p.taken
	pipe := s.p.client().Pipeline()
	first := pipe.ZRangeWithScores(s.p.with(ctx), s.p.keys.delayed(), 0, 0)
	var there *redis.IntCmd
	if t.every(&t.nextPause, pauseEvery) {
		there = pipe.Exists(s.p.with(ctx), s.p.keys.paused(), s.p.keys.orders(), s.p.keys.counters())
	}
	if _, err := pipe.Exec(s.p.with(ctx)); err != nil && !errors.Is(err, redis.Nil) {
		return 0, false, err
	}
	if there != nil {
		t.turns.Store(there.Val() > 0)
		if err := s.lookForPause(ctx, there.Val() > 0); err != nil {
			return 0, false, err
		}
	}
	if len(first.Val()) == 0 {
		return 0, false, nil
	}
	return int64(first.Val()[0].Score), true, nil
}

// knowPause sees to it that this process knows whether the queue is paused: who does
// not know may take nothing.
func (s *source) knowPause(ctx context.Context) error {
	t := &s.p.taken
	if t.told.Load() {
		return nil
	}
	return s.lookForPause(ctx, true)
}

// lookForPause looks whether the queue is paused, if it may be.
func (s *source) lookForPause(ctx context.Context, may bool) error {
	if may {
		n, err := s.p.client().Exists(s.p.with(ctx), s.p.keys.paused()).Result()
		if err != nil {
			return err
		}
		may = n > 0
	}
	s.p.taken.seePause(may)
	return nil
}

// seePause notes whether the queue is paused.
func (t *taken) seePause(paused bool) {
	t.paused.Store(paused)
	t.told.Store(true)
}

// every reports whether it is time for something that is done every d, and if
// so, that it is done now.
func (t *taken) every(next *time.Time, d time.Duration) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if now.Before(*next) {
		return false
	}
	*next = now.Add(d - rand.N(d/8))
	return true
}

// luaReady defines readiness(), which returns what an entry has of a record's
// names and values, the lane, and whether a record stays while it is ready.
const luaReady = `
local ofRecord = {s = true, g = true, q = true, r = true, u = true, v = true, p = true}
local function readiness(record)
  local e, lane, data, recorded = {}, '', '', false
  for i = 1, #record, 2 do
    local name, value = record[i], record[i+1]
    if name == 'g' then lane = value end
    if name == '__data__' then
      data = value
    elseif not ofRecord[name] then
      e[#e+1] = name
      e[#e+1] = value
    end
    if name == 'k' and value == '1' or name == 'c' then recorded = true end
  end
  e[#e+1] = '__data__'
  e[#e+1] = data
  return e, lane, recorded
end
`

// promoteScript makes ready what is due. A message that has no record, or no
// readable one, is none.
//
//	KEYS[1]  what is delayed
//	KEYS[2]  T:l
//	KEYS[3]… streams of lanes, then records
//	ARGV[1]  number of lanes
//	ARGV[2]… their names, then the record ids
//
// It returns how many it has made ready, and in how many ms the next is due; −1 if none is; and
// the lanes of those that it has left, because it was not told of them.
var promoteScript = newScript(luaNow + luaReady + luaLanes + `
local lanes, n = lanesAt(2, 1)
local t, done, unknown = now(), 0, {}
local function promote(rid, key)
  local record = redis.pcall('HGETALL', key)
  if not record.err and #record > 0 then
    local e, lane, recorded = readiness(record)
    if not lanes.streams[lane] then
      unknown[#unknown+1] = lane
      return
    end
    local q = add(lanes, lane, e)
    if recorded then
      redis.call('HSET', key, 's', 'ready', 'q', q)
      redis.call('HDEL', key, '__data__')
    else
      redis.call('UNLINK', key)
    end
    done = done + 1
  end
  redis.call('ZREM', KEYS[1], rid)
end
for i = 2 + n, #ARGV do
  local due = redis.call('ZSCORE', KEYS[1], ARGV[i])
  if due and tonumber(due) <= t then promote(ARGV[i], KEYS[1+i]) end
end
local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
if #first == 0 then return {done, -1} end
return {done, math.max(math.ceil(first[2] - t), 0), unpack(unknown)}
`)

// promote makes ready what is due. The node judges what is: the time here only
// says what to ask for.
func (s *source) promote(ctx context.Context) error {
	for ctx.Err() == nil {
		limit := strconv.FormatInt(s.p.taken.nodeTime().UnixMilli()+1, 10)
		ids, err := s.p.client().ZRangeArgs(s.p.with(ctx), redis.ZRangeArgs{
			Key: s.p.keys.delayed(), ByScore: true, Start: "-inf", Stop: limit, Count: promoteMost,
		}).Result()
		if err != nil {
			return err
		}
		keys, args := s.p.laneKeys(s.p.lanes())
		keys = append([]string{s.p.keys.delayed()}, keys...)
		for _, id := range ids {
			keys = append(keys, s.p.keys.record(id))
			args = append(args, id)
		}
		res, err := promoteScript.run(ctx, s.p, keys, args...).Slice()
		if err != nil {
			return err
		}
		if len(res) > 2 {
			s.p.meet(strs(res[2:])...)
			continue
		}
		if len(res) < 2 {
			return nil
		}
		done, _ := res[0].(int64)
		wait, _ := res[1].(int64)
		switch {
		case wait < 0:
			return nil
		case wait > 0 || done == 0:
			s.p.taken.dueIn(time.Duration(max(wait, 1)) * time.Millisecond)
			return nil
		}
	}
	return nil
}

// strs returns those of values that are strings.
func strs(values []any) (out []string) {
	for _, v := range values {
		if text, ok := v.(string); ok {
			out = append(out, text)
		}
	}
	return out
}

// chores does what need not be done often.
func (s *source) chores(ctx context.Context) error {
	err := s.lanes(ctx)
	t := &s.p.taken
	if !t.every(&t.nextChores, min(choresEvery, s.w.client.o.Visibility)) {
		return err
	}
	return errors.Join(err, s.overdueCopies(ctx), s.boundDead(ctx), s.mendTurns(ctx))
}

// lanes looks which lanes there are, now and then.
func (s *source) lanes(ctx context.Context) error {
	if asked, err := s.p.learnLanes(ctx); err != nil || !asked {
		return err
	}
	return s.tellAbandoned(ctx)
}

// boundDead deletes the dead letters that are beyond the bounds, the oldest first.
func (s *source) boundDead(ctx context.Context) error {
	o := s.w.client.o
	if o.DeadLetters == 0 && o.DeadLetterAge == 0 {
		return nil
	}
	var ids []string
	key, client := s.p.keys.dead(), s.p.client()
	if o.DeadLetters > 0 {
		n, err := client.ZCard(s.p.with(ctx), key).Result()
		if err != nil {
			return err
		}
		if more := n - int64(o.DeadLetters); more > 0 {
			if ids, err = client.ZRange(s.p.with(ctx), key, 0, min(more, 1000)-1).Result(); err != nil {
				return err
			}
		}
	}
	if o.DeadLetterAge > 0 {
		before := s.p.taken.nodeTime().Add(-o.DeadLetterAge).UnixMilli()
		old, err := client.ZRangeArgs(s.p.with(ctx), redis.ZRangeArgs{
			Key: key, ByScore: true, Start: "-inf", Stop: strconv.FormatInt(before, 10), Count: 1000,
		}).Result()
		if err != nil {
			return err
		}
		ids = append(ids, old...)
	}
	slices.Sort(ids)
	_, err := s.w.client.dropOn(ctx, s.p, slices.Compact(ids))
	return err
}
