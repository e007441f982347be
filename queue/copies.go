package queue

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// With Options.Copies 2 a message has a second copy on another node, T:y, which
// hides until it is overdue: until nothing was heard of the first for twice the
// visibility. Then whoever looks at its node asks the node of the first:
//
//	the first is there     it is hidden again
//	it is done             it is deleted (and the tombstone, which said so)
//	it is not there        it is made ready: that node has lost its data
//	the node is away       it is made ready: that node may never come back
//
// Until then, what is done to the first pushes its time, or deletes it. None of
// this must work for a message to be delivered, or to be done: what is not said to
// the second copy now, it asks for.

// A copyNote is what is to be said to where a second copy is.
type copyNote struct {
	ref      string
	recordID string
	size     int64         // of its body, if that lies in chunks
	overdue  time.Duration // from now; 0: it is done, delete it
}

const (
	// copyOfDead is for how long the copy of a dead letter is hidden at a time.
	copyOfDead = time.Hour
	// noteMost bounds how many notes go out at once.
	noteMost = 200
)

// overdueAfter is for how long the second copy of a message is hidden that is
// ready in due.
func (o *Options) overdueAfter(due time.Duration) time.Duration { return due + 2*o.Visibility }

// noteCopy notes what a result means for the second copy.
func (s *source) noteCopy(r *result) {
	if r.entry.copy == "" {
		return
	}
	n := copyNote{ref: r.entry.copy, recordID: r.recordID, size: r.entry.size}
	switch r.ending {
	case endDone:
	case endDead:
		n.overdue = copyOfDead
	default:
		n.overdue = s.w.client.o.overdueAfter(r.delay)
	}
	s.note(n)
}

// noteRenewal notes that a message is being delivered.
func (s *source) noteRenewal(h *held) {
	s.mu.Lock()
	copy, id := h.entry.copy, h.recordID
	s.mu.Unlock()
	if copy != "" {
		s.note(copyNote{ref: copy, recordID: id, overdue: s.w.client.o.overdueAfter(0)})
	}
}

// note hands a note over. One too many is dropped: the copy asks in the end.
func (s *source) note(n copyNote) {
	select {
	case s.notes <- n:
	default:
	}
}

// tellCopies is the loop that tells other nodes of what is noted, until ctx
// ends and all is told.
func (s *source) tellCopies(ctx context.Context) {
	for {
		var n copyNote
		select {
		case n = <-s.notes:
		default:
			select {
			case n = <-s.notes:
			case <-ctx.Done():
				return
			}
		}
		notes := []copyNote{n}
		for more := true; more && len(notes) < noteMost; {
			select {
			case n := <-s.notes:
				notes = append(notes, n)
			default:
				more = false
			}
		}
		s.tell(notes)
	}
}

// pushScript hides a second copy for longer, if it is there.
//
//	KEYS[1] T:y
//	ARGV    pairs of record id, ms from now
var pushScript = newScript(luaNow + `
local t = now()
for i = 1, #ARGV, 2 do
  redis.call('ZADD', KEYS[1], 'XX', 'GT', string.format('%.0f', t + ARGV[i+1]), ARGV[i])
end
return 1
`)

// tell tells the nodes of what is noted.
func (s *source) tell(notes []copyNote) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	by := map[string][]copyNote{}
	for _, n := range notes {
		by[n.ref] = append(by[n.ref], n)
	}
	for ref, notes := range by {
		to := s.w.client.byRef(ref)
		if to == nil || to.resting() {
			continue
		}
		if err := s.tellOne(ctx, to, notes); err != nil {
			to.report(ctx, err)
			s.w.o.Observe.Trouble(to.node.Name(), "telling of what has a copy there", err)
		}
	}
}

func (s *source) tellOne(ctx context.Context, to *partition, notes []copyNote) error {
	pipe := to.client().Pipeline()
	var push []any
	var done []string
	for _, n := range notes {
		if n.overdue > 0 {
			push = append(push, n.recordID, n.overdue.Milliseconds())
			continue
		}
		done = append(done, s.p.keys.tombstone(n.recordID))
		to.deleteCopy(ctx, pipe, n.recordID, n.size)
	}
	if len(push) > 0 {
		if err := pushScript.run(ctx, to, []string{to.keys.seconds()}, push...).Err(); err != nil {
			return err
		}
	}
	if len(done) == 0 {
		return nil
	}
	if _, err := pipe.Exec(to.with(ctx)); err != nil {
		return err
	}
	return s.p.client().Unlink(s.p.with(ctx), done...).Err()
}

// overdueCopies looks at second copies that are overdue on this partition.
func (s *source) overdueCopies(ctx context.Context) error {
	for ctx.Err() == nil {
		limit := strconv.FormatInt(s.p.taken.nodeTime().UnixMilli(), 10)
		ids, err := s.p.client().ZRangeArgs(s.p.with(ctx), redis.ZRangeArgs{
			Key: s.p.keys.seconds(), ByScore: true, Start: "-inf", Stop: limit, Count: noteMost,
		}).Result()
		if err != nil {
			return err
		}
		for _, id := range ids {
			if err := s.seeToCopy(ctx, id); err != nil {
				return err
			}
		}
		if len(ids) < noteMost {
			return nil
		}
	}
	return nil
}

// seeToCopy does what is to be done with one that is overdue.
func (s *source) seeToCopy(ctx context.Context, recordID string) error {
	fields, err := s.p.client().HMGet(s.p.with(ctx), s.p.keys.second(recordID), "c", "n").Result()
	if err != nil {
		return err
	}
	from, _ := fields[0].(string)
	text, _ := fields[1].(string)
	size, _ := strconv.ParseInt(text, 10, 64)
	switch first := s.w.client.byRef(from); s.askFirst(ctx, first, recordID) {
	case stateDone:
		pipe := s.p.client().Pipeline()
		s.p.deleteCopy(ctx, pipe, recordID, min(size, maxChunked))
		if _, err := pipe.Exec(s.p.with(ctx)); err != nil {
			return err
		}
		return first.client().Unlink(first.with(ctx), first.keys.tombstone(recordID)).Err()
	case stateReady:
		push := []any{recordID, s.w.client.o.overdueAfter(0).Milliseconds()}
		return pushScript.run(ctx, s.p, []string{s.p.keys.seconds()}, push...).Err()
	case stateDead:
		push := []any{recordID, copyOfDead.Milliseconds()}
		return pushScript.run(ctx, s.p, []string{s.p.keys.seconds()}, push...).Err()
	}
	return s.promoteCopy(ctx, recordID)
}

// askFirst asks the node of the first copy what has become of it: ready where it
// is there in any way, dead, done, or nothing.
func (s *source) askFirst(ctx context.Context, first *partition, recordID string) string {
	if first == nil || first.resting() {
		return ""
	}
	pipe := first.client().Pipeline()
	tombstone := pipe.Exists(first.with(ctx), first.keys.tombstone(recordID))
	state := pipe.HGet(first.with(ctx), first.keys.record(recordID), "s")
	_, err := pipe.Exec(first.with(ctx))
	if err != nil && !errors.Is(err, redis.Nil) {
		first.report(ctx, err)
		return ""
	}
	switch {
	case tombstone.Val() > 0 || state.Val() == stateDone:
		return stateDone
	case state.Val() == stateDead:
		return stateDead
	case state.Val() != "":
		return stateReady
	}
	return ""
}

// deleteCopy deletes a second copy.
func (p *partition) deleteCopy(ctx context.Context, pipe redis.Pipeliner, recordID string, size int64) {
	pipe.Unlink(p.with(ctx), append(p.keys.chunks(recordID, size), p.keys.second(recordID))...)
	pipe.ZRem(p.with(ctx), p.keys.seconds(), recordID)
}

// promoteCopyScript makes a second copy that is overdue a message of its own.
//
//	KEYS[1]  T:y
//	KEYS[2]  the copy
//	KEYS[3]  record
//	KEYS[4]  counts
//	KEYS[5]  orders
//	KEYS[6]  list of what waits for its order key
//	KEYS[7]… streams of all lanes
//	ARGV[1]  record id
//	ARGV[2]  how many of an order key may be in flight
//	ARGV[3]… names of the lanes
//
// It returns 1 if it is a message now.
var promoteCopyScript = newScript(luaNow + luaReady + luaPut + `
local due = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not due or tonumber(due) > now() then return 0 end
local copy = redis.call('HGETALL', KEYS[2])
if #copy > 0 and redis.call('EXISTS', KEYS[3]) == 0 then
  local lanes = {}
  for i = 3, #ARGV do lanes[ARGV[i]] = KEYS[4+i] end
  local clean, u = {}, ''
  for i = 1, #copy, 2 do
    if copy[i] == 'u' then u = copy[i+1] end
    if copy[i] ~= 'c' and copy[i] ~= 'd' then
      clean[#clean+1] = copy[i]
      clean[#clean+1] = copy[i+1]
    end
  end
  put(clean, KEYS[3], KEYS[4], KEYS[5], KEYS[6], tonumber(ARGV[2]), lanes, KEYS[7], u)
end
redis.call('UNLINK', KEYS[2])
redis.call('ZREM', KEYS[1], ARGV[1])
return 1
`)

// luaPut defines put(), which makes the message in a record ready, or has it
// wait for its order key, as if it were new.
const luaPut = `
local function put(record, key, counts, orders, waiting, perKey, lanes, fallback, digest)
  local e, lane, recorded = readiness(record)
  local order, tracked, id, at, counted = '', '0', '', '0', nil
  for i = 1, #e, 2 do
    if e[i] == 'o' then order = e[i+1]
    elseif e[i] == 'k' then tracked = e[i+1]
    elseif e[i] == 'i' then id = e[i+1]
    elseif e[i] == 't' then at = e[i+1]
    elseif e[i] == 'z' then counted = e[i+1] end
  end
  if counted then redis.call('HINCRBY', counts, 'b', counted) end
  local q = ''
  if order ~= '' and (tonumber(redis.call('HGET', orders, order) or 0) >= perKey or redis.call('EXISTS', waiting) == 1) then
    redis.call('RPUSH', waiting, cmsgpack.pack({lane, unpack(e)}))
    redis.call('HINCRBY', counts, 'w', 1)
  else
    if order ~= '' then redis.call('HINCRBY', orders, order, 1) end
    q = redis.call('XADD', lanes[lane] or fallback, '*', unpack(e))
  end
  if recorded then
    redis.call('DEL', key)
    redis.call('HSET', key, 's', 'ready', 'g', lane, 'q', q, 'u', digest, 'i', id, 't', at, 'k', tracked)
  else
    redis.call('UNLINK', key)
  end
end
`

// promoteCopy makes a second copy that is overdue a message of its own.
func (s *source) promoteCopy(ctx context.Context, recordID string) error {
	k := s.p.keys
	order, err := s.p.client().HGet(s.p.with(ctx), k.second(recordID), "o").Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return err
	}
	keys, names := s.w.client.allLanes(s.p)
	keys = append([]string{k.seconds(), k.second(recordID), k.record(recordID), k.counters(), k.orders(), k.order(order)}, keys...)
	args := append([]any{recordID, s.w.client.o.PerKey}, names...)
	return promoteCopyScript.run(ctx, s.p, keys, args...).Err()
}
