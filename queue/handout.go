package queue

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"runtime/debug"
	"strconv"
	"strings"
	"time"
)

// An ending is what is done to a message after a delivery.
type ending uint8

const (
	endDone ending = iota
	endLater
	endDead
	endRelease // given back, not tried
	endLeave   // left as it is: it becomes visible again
)

// A result is what came of an entry that was taken, on its way to the node.
type result struct {
	*held
	ending   ending
	said     Result
	attempts int           // that have ended by now
	delay    time.Duration // of endLater
	took     time.Duration
	tried    bool // it was delivered just now
	tries    int  // to record it
	nobodys  bool // the entry was found to be pending to nobody
}

// handle sees one entry through: most are delivered, some need not be.
func (s *source) handle(h *held) {
	defer s.w.underWay.Add(-1)
	ctx, cancel := context.WithCancelCause(s.w.working)
	defer cancel(nil)
	r := s.prepare(ctx, h)
	switch {
	case r != nil:
		s.notTried(h, r.attempts)
	case s.begin(h, cancel):
		r = s.tryOut(ctx, h)
	}
	s.w.gate.slots.release(1)
	if r == nil {
		return // it was lost before it began
	}
	if r.ending == endDead && !s.bury(ctx, r) {
		s.buryLater(r)
	}
	s.end(r)
}

// buryLater has a message wait that cannot become a dead letter now. One that was
// delivered is not delivered again for that: it keeps in mind why it dies. Others have
// the same reason when they come again.
func (s *source) buryLater(r *result) {
	if !r.tried && r.entry.doomed == "" {
		r.ending = endLeave
		return
	}
	r.ending, r.delay = endLater, s.w.client.o.Visibility
	s.mu.Lock()
	defer s.mu.Unlock()
	r.entry.doomed = firstOf(cutText(r.said.Reason, errorMost), "?")
}

// notTried says that the attempt which h was taken for will not be made. Who tells
// that h is lost may have its Delivery already, which therefore stays as it is.
func (s *source) notTried(h *held, attempts int) {
	d := *h.d
	d.Attempt = attempts
	s.mu.Lock()
	defer s.mu.Unlock()
	h.d = &d
}

// prepare reads the entry, and says what is to be done with it if that is known
// without a delivery.
func (s *source) prepare(ctx context.Context, h *held) *result {
	garbage := s.parse(h)
	e := &h.entry
	d := h.d
	switch {
	case garbage != nil:
		return &result{held: h, ending: endDead, attempts: d.Attempt - 1, said: Result{Outcome: Dead, Reason: garbage.Error()}}
	case s.w.client.out.wasDone(s.doneKey(h)):
		return &result{held: h, ending: endDone, attempts: d.Attempt, said: Result{Outcome: Done}}
	case h.lane.abandoned:
		return s.buryAbandoned(ctx, h)
	case e.doomed != "":
		return &result{held: h, ending: endDead, attempts: d.Attempt - 1, said: Result{Outcome: Dead, Status: e.lastStatus, Reason: e.doomed}}
	case d.Attempt > s.w.o.Attempts:
		return &result{held: h, ending: endDead, attempts: d.Attempt - 1, said: Result{Outcome: Dead, Status: e.lastStatus, Reason: usedUp(e.lastError)}}
	case e.expires > 0 || e.notBefore > 0:
		return s.judgeTime(ctx, h)
	}
	return nil
}

func (s *source) doneKey(h *held) doneKey { return doneKey{s.p, h.recordID, h.entry.accepted} }

// usedUp is the reason of a dead letter whose last delivery nobody ended.
func usedUp(lastError string) string {
	if lastError == "" {
		return "the worker ended without a result"
	}
	return "the worker ended without a result; before: " + lastError
}

// judgeTime asks the node whether a message is expired, or not due.
func (s *source) judgeTime(ctx context.Context, h *held) *result {
	e, before := &h.entry, h.d.Attempt-1
	now, err := s.p.now(ctx)
	switch {
	case err != nil:
		s.trouble(ctx, "asking for the time", err)
		return &result{held: h, ending: endRelease}
	case e.expires > 0 && now.UnixMilli() >= e.expires:
		return &result{held: h, ending: endDead, attempts: before, said: Result{Outcome: Dead, Status: e.lastStatus, Reason: "expired"}}
	case now.UnixMilli() < e.notBefore:
		delay := time.Duration(e.notBefore-now.UnixMilli()) * time.Millisecond
		return &result{held: h, ending: endLater, delay: delay, attempts: before,
			said: Result{Outcome: Release, Status: e.lastStatus, Reason: e.lastError}}
	}
	return nil
}

// parse reads the fields of the entry. What cannot be read still has a name.
func (s *source) parse(h *held) error {
	e, err := parseEntry(h.values)
	s.p.nameEntry(&e, h.lane.name, h.id)
	if err != nil && e.frame == nil {
		raw, _ := h.values[dataField].(string)
		e.frame = []byte(raw)
	}
	h.values = nil
	header, body, frameErr := parseFrame(e.frame)
	if frameErr != nil {
		header, body = map[string]string{}, e.frame
		if err == nil {
			err = frameErr
		}
	}
	recordID := recordID(e.id, h.lane.destination)
	s.mu.Lock()
	count := h.count // which the read loop may learn anew
	s.mu.Unlock()
	d := &Delivery{
		ID: e.id, Header: header, Body: body, Size: int64(len(body)),
		Attempt: e.attempts + count, Unheard: count > 1, Class: h.lane.class, Destination: h.lane.destination,
		AcceptedAt: s.localTime(e.accepted), LastError: e.lastError, LastStatus: e.lastStatus,
		Node: s.p.node.Name(),
	}
	d.open = func() io.ReadCloser { return io.NopCloser(bytes.NewReader(body)) }
	if e.size > 0 {
		d.Body, d.Size = nil, e.size
		d.open = func() io.ReadCloser { return s.w.client.openChunks(s.p, recordID, e.size) }
	}
	s.mu.Lock()
	h.entry, h.recordID, h.d = e, recordID, d
	s.mu.Unlock()
	return err
}

// entryMillis returns the time in an entry's id.
func entryMillis(id string) int64 {
	ms, _, _ := strings.Cut(id, "-")
	n, _ := strconv.ParseInt(ms, 10, 64)
	return n
}

// localTime returns a time of the node's clock by this process's.
func (s *source) localTime(ms int64) time.Time {
	return time.Now().Add(-max(0, s.p.taken.nodeTime().Sub(time.UnixMilli(ms))))
}

// tryOut delivers, and says what is to be done then. What was taken and not
// begun when the worker stops, or the destination rests, is given back.
func (s *source) tryOut(ctx context.Context, h *held) *result {
	r := &result{held: h, ending: endRelease, attempts: h.d.Attempt}
	if s.w.taking.Err() != nil {
		return r
	}
	ok, trial := s.w.gate.breaker.begin()
	if !ok {
		return r
	}
	s.tellPlace(ctx, h)
	begin := time.Now()
	r.said = s.call(ctx, h.d)
	r.took = time.Since(begin)
	interrupted := ctx.Err() != nil && r.said.Outcome != Done && !(r.said.Outcome == Release && r.said.After > 0)
	s.w.gate.breaker.end(r.said.Outcome, !interrupted && r.said.Outcome != Release, trial)
	if interrupted {
		return r // it may be lost; else it was not tried to the end
	}
	r.tried = true
	s.decide(r)
	return r
}

// placeScript notes in a record where the message is, in the stream. Only who
// reads it can do that for one that had to wait for its order key: the script that
// made it ready did not know which would be the next, and so not its record.
//
//	KEYS[1] record
//	ARGV[1] id of the entry
var placeScript = newScript(`
if redis.call('HGET', KEYS[1], 's') == 'ready' then redis.call('HSET', KEYS[1], 'q', ARGV[1]) end
return 1
`)

// tellPlace notes where a message is that somebody may ask for.
func (s *source) tellPlace(ctx context.Context, h *held) {
	if h.entry.order == "" || !h.entry.isRecorded() {
		return
	}
	if err := placeScript.run(ctx, s.p, []string{s.p.keys.record(h.recordID)}, h.id).Err(); err != nil {
		s.trouble(ctx, "noting where a message is", err)
	}
}

// call calls the worker's function. A panic in it loses nothing.
func (s *source) call(ctx context.Context, d *Delivery) (r Result) {
	defer func() {
		if p := recover(); p != nil {
			r = Result{Outcome: Retry, Reason: fmt.Sprintf("panic: %v", p)}
			s.w.o.Observe.Trouble(d.Node, "delivering", fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
		}
	}()
	return s.w.deliver(ctx, d)
}

// decide says what is done after a delivery that came to its end.
func (s *source) decide(r *result) {
	o, said := s.w.o, r.said
	switch said.Outcome {
	case Done:
		r.ending = endDone
	case Dead:
		r.ending = endDead
	case Release:
		r.attempts--
		if said.After > 0 {
			r.ending, r.delay = endLater, said.After
		}
	default:
		if r.attempts >= o.Attempts {
			r.ending = endDead
			return
		}
		r.ending, r.delay = endLater, backoff(o.BackoffFirst, o.BackoffLongest, r.attempts, said.After)
	}
}

// bury asks whether a message may become a dead letter now.
func (s *source) bury(ctx context.Context, r *result) bool {
	if s.w.o.Bury == nil {
		return true
	}
	err := s.w.o.Bury(ctx, r.d, r.said)
	if err != nil {
		s.w.o.Observe.Trouble(s.p.node.Name(), "burying", err)
	}
	return err == nil
}
