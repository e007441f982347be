package queue

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"
)

const (
	// recordMost bounds how many results one round trip records.
	recordMost = 256
	// refusedMost is how often a result is tried to be recorded that the node
	// answers with an error of no known kind.
	refusedMost = 10
	// errorMost bounds the last error that is kept, in bytes.
	errorMost = 256
	// tombstoneFor is how long it is remembered that a message is done whose second
	// copy is on a node that cannot be told.
	tombstoneFor = 24 * time.Hour
	// retryRecord is how long to wait, first and longest, until results are recorded
	// again that could not be.
	retryRecord, retryRecordLongest = 20 * time.Millisecond, time.Second
)

// end hands a result over to be recorded.
func (s *source) end(r *result) {
	s.mu.Lock()
	s.results = append(s.results, r)
	s.mu.Unlock()
	select {
	case s.ended <- struct{}{}:
	default:
	}
}

// record is the loop that records what came of deliveries, as many at once as
// there are. What could not be recorded is tried again, and held meanwhile: if the
// node was away and comes back, nobody delivers again what was done.
func (s *source) record(ctx context.Context) {
	pause := retryRecord
	for ctx.Err() == nil {
		s.mu.Lock()
		batch := s.results[:min(len(s.results), recordMost)]
		s.mu.Unlock()
		if len(batch) == 0 {
			select {
			case <-ctx.Done():
			case <-s.ended:
			}
			continue
		}
		again := s.recordBatch(ctx, batch)
		s.mu.Lock()
		s.results = append(again, s.results[len(batch):]...)
		s.mu.Unlock()
		if len(again) == 0 {
			pause = retryRecord
			continue
		}
		sleep(ctx, pause)
		pause = min(2*pause, retryRecordLongest)
	}
}

// settled waits until all results are recorded, or ctx ends, and reports which.
func (s *source) settled(ctx context.Context) bool {
	for {
		s.mu.Lock()
		n := len(s.results)
		s.mu.Unlock()
		if n == 0 || ctx.Err() != nil {
			return n == 0
		}
		sleep(ctx, 2*time.Millisecond)
	}
}

// giveUp returns how many results are not recorded, and remembers those that are done.
func (s *source) giveUp() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.results {
		if r.ending == endDone {
			s.w.client.out.remember(s.doneKey(r.held))
		}
	}
	return len(s.results)
}

// recordBatch records results in one round trip, and returns those that are to
// be tried again.
func (s *source) recordBatch(ctx context.Context, batch []*result) (again []*result) {
	s.publish(ctx, batch)
	batch = s.notOusted(batch)
	calls, of := s.calls(batch)
	err := runAll(ctx, s.p, calls)
	s.p.report(ctx, err)
	if err != nil {
		s.w.o.Observe.Trouble(s.p.node.Name(), "recording", err)
	}
	for i, c := range calls {
		for j, r := range of[i] {
			r.tries++
			code, err := replyOf(c, j)
			if !s.recorded(ctx, r, code, err) {
				again = append(again, r)
			}
		}
	}
	for _, r := range batch {
		if r.ending == endLeave {
			s.leaveInPlace(r.held)
		}
	}
	return again
}

// notOusted returns those results that are to be recorded.
func (s *source) notOusted(batch []*result) []*result {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(batch), func(r *result) bool { return r.ousted })
}

// calls returns the scripts that record a batch, and which results each is of.
func (s *source) calls(batch []*result) (calls []*call, of [][]*result) {
	acks, releases := map[*inlet][]*result{}, map[*inlet][]*result{}
	for _, r := range batch {
		switch r.ending {
		case endDone:
			if r.entry.isPlain() && !r.nobodys && !r.doubt {
				acks[r.lane] = append(acks[r.lane], r)
				continue
			}
			calls, of = append(calls, s.doneCall(r)), append(of, []*result{r})
		case endLater:
			calls, of = append(calls, s.laterCall(r)), append(of, []*result{r})
		case endDead:
			calls, of = append(calls, s.deadCall(r)), append(of, []*result{r})
		case endRelease:
			releases[r.lane] = append(releases[r.lane], r)
		}
	}
	for in, rs := range acks {
		slices.SortFunc(rs, func(a, b *result) int { return compareIDs(a.id, b.id) })
		args := make([]any, 0, 2+len(rs))
		args = append(args, group, s.name)
		for _, r := range rs {
			args = append(args, r.id)
		}
		calls, of = append(calls, &call{script: ackScript, keys: []string{in.key}, args: args}), append(of, rs)
	}
	for in, rs := range releases {
		ids := make([]string, len(rs))
		for i, r := range rs {
			ids[i] = r.id
		}
		calls, of = append(calls, s.giveBackCall(in, ids, false)), append(of, rs)
	}
	return calls, of
}

// compareIDs compares the ids of two entries as a stream orders them: by two
// numbers, neither of which begins with a zero.
func compareIDs(a, b string) int {
	aMillis, aSeq, _ := strings.Cut(a, "-")
	bMillis, bSeq, _ := strings.Cut(b, "-")
	return cmp.Or(cmp.Compare(len(aMillis), len(bMillis)), cmp.Compare(aMillis, bMillis),
		cmp.Compare(len(aSeq), len(bSeq)), cmp.Compare(aSeq, bSeq))
}

// isPlain reports whether a message is an entry of a stream and nothing else.
func (e *entry) isPlain() bool {
	return e.order == "" && e.counted == 0 && !e.isRecorded() && e.size == 0
}

// isRecorded reports whether a message has a record also while it is ready.
func (e *entry) isRecorded() bool { return e.tracked || e.copy != "" }

// What the scripts answer.
const (
	codeLost = iota
	codeRecorded
	codeGone
	codeTwice

	codeNobodys = codeGone // of ackScript
)

// replyOf returns the j-th answer of a call.
func replyOf(c *call, j int) (int, error) {
	v, err := c.Result()
	if err != nil {
		return 0, err
	}
	if list, ok := v.([]any); ok {
		v = nil
		if j < len(list) {
			v = list[j]
		}
	}
	n, _ := v.(int64)
	return int(n), nil
}

// recorded takes what a script answered, and reports whether that was the end.
func (s *source) recorded(ctx context.Context, r *result, code int, err error) bool {
	if err == nil && code == codeGone { // from here; where it is it may be pending to this consumer
		s.mu.Lock()
		s.leftLocked(r.entryKey)
		s.mu.Unlock()
	}
	switch {
	case err == nil && code == codeLost && r.ending == endRelease,
		r.ending == endRelease && isNoGroup(err): // it is ready again, or another's
		s.forget(r.held)
	case err == nil && code == codeTwice:
		s.leaveInPlace(r.held)
	case err == nil && code == codeNobodys && r.ending == endDone && r.entry.isPlain() && !r.nobodys && !r.doubt:
		r.nobodys = true
		return false
	case err == nil && (code == codeLost || code == codeGone && r.ending != endDone && r.tries == 1):
		s.lose(r.held)
	case err == nil:
		s.forget(r.held)
		s.after(r)
	case isFull(err):
		s.w.o.Observe.Trouble(s.p.node.Name(), "putting a message back", err)
		s.leaveInPlace(r.held)
	case connectionError(err) != nil || judge(ctx, err) != answered || repliedWith(err, "TRYAGAIN") || r.tries < refusedMost:
		return false
	default:
		s.w.o.Observe.Trouble(s.p.node.Name(), "recording", err)
		s.leaveInPlace(r.held)
	}
	return true
}

// after tells those who want to know that a result is recorded.
func (s *source) after(r *result) {
	state := stateReady
	switch r.ending {
	case endDone:
		state = stateDone
	case endDead:
		state = stateDead
	case endLater:
		state = stateDelayed
		s.p.taken.dueIn(r.delay)
	}
	s.noteCopy(r)
	s.w.o.Observe.Ended(r.d, r.said, r.took, state)
}

// fields returns what a record says of a message after this result.
func (r *result) fields() []any {
	e := r.entry
	e.attempts = r.attempts
	e.lastStatus = r.said.Status
	e.lastError = cutText(r.said.Reason, errorMost)
	e.notBefore = 0
	return e.fields(nil)
}

// cutText returns the beginning of s, whole characters, in at most n bytes.
func cutText(s string, n int) string {
	if len(s) > n {
		s = s[:n]
	}
	return strings.ToValidUTF8(s, "")
}

// lanesOf returns what a script is to know of the lanes of an inlet's destination, of
// which that is the first.
func (s *source) lanesOf(in *inlet) (keys []string, args []any) {
	names := []string{in.name}
	for _, name := range s.p.lanes() {
		if d, _ := splitLane(name); d == in.destination && name != in.name {
			names = append(names, name)
		}
	}
	return s.p.laneKeys(names)
}

func (s *source) doneCall(r *result) *call {
	k, e := s.p.keys, &r.entry
	keep, tombstone := int64(0), int64(0)
	if e.tracked {
		keep = s.w.client.o.KeepResult.Milliseconds()
	}
	if e.copy != "" {
		tombstone = tombstoneFor.Milliseconds()
	}
	lanes, names := s.lanesOf(r.lane)
	keys := append([]string{r.lane.key, k.record(r.recordID), k.counters(), k.orders(), k.order(e.order), k.tombstone(r.recordID)}, lanes...)
	if e.size > 0 {
		keys = append(keys, k.chunks(r.recordID, e.size)...)
	}
	args := append([]any{group, s.name, r.id, e.order, e.counted, s.w.client.o.PerKey, keep, tombstone, r.named, flag(r.doubt)}, names...)
	args = append(args, "i", e.id, "t", e.accepted, "k", "1", "g", r.lane.name, "a", r.attempts, "l", r.said.Status)
	if r.said.Response != nil && keep > 0 {
		if frame, err := r.said.Response.frame(r.d); err == nil {
			args = append(args, "v", frame)
		}
	}
	return &call{script: doneScript, keys: keys, args: args}
}

func (s *source) laterCall(r *result) *call {
	k := s.p.keys
	args := []any{group, s.name, r.id, r.recordID, r.delay.Milliseconds(), r.named, "g", r.lane.name}
	return &call{script: retryScript, keys: []string{r.lane.key, k.record(r.recordID), k.delayed()}, args: append(args, r.fields()...)}
}

func (s *source) deadCall(r *result) *call {
	k, e := s.p.keys, &r.entry
	lanes, names := s.lanesOf(r.lane)
	keys := append([]string{r.lane.key, k.record(r.recordID), k.counters(), k.orders(), k.order(e.order), k.dead()}, lanes...)
	args := append([]any{group, s.name, r.id, e.order, e.counted, s.w.client.o.PerKey, r.recordID, r.named}, names...)
	args = append(args, "g", r.lane.name, "r", cutText(r.said.Reason, errorMost))
	return &call{script: deadScript, keys: keys, args: append(args, r.fields()...)}
}
