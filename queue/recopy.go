package queue

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"
)

// attachScript notes where the second copy of a message is, if it still waits, and
// nobody else has written it another one meanwhile.
//
//	KEYS[1] dead letters, or what is delayed
//	KEYS[2] record
//	ARGV[1] record id
//	ARGV[2] ref of the partition with the copy
//	ARGV[3] where its copy was before; empty: nowhere
//
// It returns 1 if the message knows of the copy.
var attachScript = newScript(`
local c = redis.call('HGET', KEYS[2], 'c') or ''
if c == ARGV[2] then return 1 end
if c ~= ARGV[3] or not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return 0 end
redis.call('HSET', KEYS[2], 'c', ARGV[2])
return 1
`)

// copyOne writes a second copy of a record in this set, and reports whether there is
// no more to be done. on is where; nil: anywhere.
func (s *source) copyOne(ctx context.Context, set, rid string, on *partition) (over bool, err error) {
	all, err := s.p.client().HGetAll(s.p.with(ctx), s.p.keys.record(rid)).Result()
	if err != nil {
		return false, err
	}
	r, err := parseRecord(all)
	if err != nil || r.state != stateDead && r.state != stateDelayed {
		return true, nil //nolint:nilerr // what cannot be read was never a message, and what went on has gone on
	}
	due, err := s.p.client().ZScore(s.p.with(ctx), set, rid).Result()
	if errors.Is(err, redis.Nil) {
		return true, nil
	} else if err != nil {
		return false, err
	}
	if on == nil {
		machine := s.p.machine(ctx)
		on = s.w.client.pick(s.w.client.hashOf(rid), func(other *partition) bool { return other == s.p || other.machine(ctx) == machine })
	}
	if on == nil {
		s.p.taken.wantsMending(mendAgain)
		return false, nil
	}
	if err := s.p.measure(ctx); err != nil {
		return false, err
	}
	if err := s.writeCopy(ctx, rid, &r, time.UnixMilli(int64(due)), on); err != nil {
		s.w.o.Observe.Trouble(on.node.Name(), "writing a second copy again", err)
		s.p.taken.wantsMending(mendAgain)
		return errors.Is(err, ErrTorn), nil // of what is not whole here there is no copy to be had
	}
	// A copy of which the message does not know would come back when that is long done.
	ctx = context.WithoutCancel(ctx)
	knows, err := attachScript.run(ctx, s.p, []string{set, s.p.keys.record(rid)}, rid, on.ref, r.copy).Int()
	if err != nil || knows == 1 {
		return true, err
	}
	return true, runEach(ctx, on, []*call{on.deleteCopiesCall(goneCopy{rid, r.size})})
}

// writeCopy writes a second copy of what a record says. Its times are by the clock
// of the other node then.
func (s *source) writeCopy(ctx context.Context, rid string, r *record, due time.Time, on *partition) error {
	if err := s.copyChunks(ctx, rid, r.size, on); err != nil {
		return err
	}
	if err := on.measure(ctx); err != nil {
		on.report(ctx, err)
		return err
	}
	now, then := s.p.taken.nodeTime(), on.taken.nodeTime()
	e := r.entry
	e.copy, e.order = s.p.ref, ""
	if e.accepted > 0 {
		e.accepted = then.Add(time.UnixMilli(e.accepted).Sub(now)).UnixMilli()
	}
	expires := int64(0)
	if e.expires > 0 {
		expires, e.expires = max(time.UnixMilli(e.expires).Sub(now).Milliseconds(), 1), 0
	}
	hidden := copyOfDead
	if r.state == stateDelayed {
		hidden = s.w.client.o.overdueAfter(max(due.Sub(now), 0))
	}
	args := []any{hidden.Milliseconds(), int(leaveWhatIsThere), expires, 1, rid, r.lane, r.order}
	args = e.fields(append(args, "u", firstOf(r.digest, "-")))
	if r.state == stateDead {
		args = append(args, "s", stateDead, "r", r.reason)
	}
	chunks := on.keys.chunks(rid, r.size)
	keys := append(append([]string{on.keys.seconds(), on.keys.second(rid)}, chunks...), chunks...)
	err := putSecondScript.run(ctx, on, keys, args...).Err()
	on.report(ctx, err)
	return err
}

// copyChunks writes the chunks of a record's body on another node.
func (s *source) copyChunks(ctx context.Context, rid string, size int64, on *partition) error {
	if size == 0 {
		return nil
	}
	body := s.w.client.openChunks(s.p, rid, size).(*chunkReader)
	defer body.Close() //nolint:errcheck // never fails
	for n := 0; body.size > 0; n++ {
		if err := body.next(); err != nil {
			return err
		}
		if err := on.setChunks(ctx, []string{rid}, n, body.piece); err != nil {
			return err
		}
	}
	return nil
}
