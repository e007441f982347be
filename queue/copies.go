package queue

import (
	"context"
	"strings"
	"time"
)

// With Options.Copies 2 a message has a second copy on another node, T:y, which
// hides until it is overdue: until nothing was heard of the first for twice the
// visibility. Then whoever looks at its node asks the node of the first:
//
//	the first is there     it is hidden again
//	it is done             it is deleted (and the tombstone, which said so)
//	it is not there        it is made ready: that node has lost its data
//	the node is away       it is made ready, unless the node was there a visibility
//	                       ago: it may never come back
//
// Until then, what is done to the first pushes its time, or deletes it. The copy of
// a dead letter knows that it is one, and becomes one where another would be made
// ready; mend.go says when it is looked at. None of this must work for a message
// to be delivered, or to be done: what is not said to the second copy now, it asks for.

// A copyNote is what is to be said to where a second copy is.
type copyNote struct {
	ref      string
	recordID string
	size     int64         // of its body, if that lies in chunks
	overdue  time.Duration // from now; 0: it is done, delete it
	dead     *obituary     // nil: it lives
}

// An obituary is what the copy of a dead letter is told of it.
type obituary struct {
	attempts, status int
	lastError        string
	reason           string
}

func (o *obituary) args() []any { return []any{o.attempts, o.status, o.lastError, o.reason} }

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
		reason := cutText(r.said.Reason, errorMost)
		n.overdue, n.dead = copyOfDead, &obituary{r.attempts, r.said.Status, reason, reason}
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

// buryScript tells second copies, if they are there, that they are of dead letters.
//
//	KEYS[1]  T:y
//	KEYS[2]… the copies
//	ARGV[1]  for how many ms they are hidden
//	ARGV[2]… for each: record id, attempts, last status, last error, reason
var buryScript = newScript(luaNow + `
local due = string.format('%.0f', now() + ARGV[1])
for i = 2, #KEYS do
  local at = 5 * i - 8
  if redis.call('EXISTS', KEYS[i]) == 1 then
    redis.call('HSET', KEYS[i], 's', 'dead', 'a', ARGV[at+1], 'l', ARGV[at+2], 'e', ARGV[at+3], 'r', ARGV[at+4])
    redis.call('ZADD', KEYS[1], 'XX', due, ARGV[at])
  end
end
return 1
`)

// reviveScript tells second copies that they are of no dead letters any more, as
// replayScript does, and hides them as those of messages that are ready.
//
//	KEYS[1]  T:y
//	KEYS[2]… the copies
//	ARGV[1]  for how many ms they are hidden
//	ARGV[2]… record ids
var reviveScript = newScript(luaNow + `
local due = string.format('%.0f', now() + ARGV[1])
for i = 2, #KEYS do
  redis.call('HDEL', KEYS[i], 's', 'r', 'a', 'e', 'x')
  redis.call('ZADD', KEYS[1], 'XX', due, ARGV[i])
end
return 1
`)

// buryCall tells second copies on a partition that they are of dead letters.
func (p *partition) buryCall(dead map[string]*obituary) *call {
	keys, args := []string{p.keys.seconds()}, []any{copyOfDead.Milliseconds()}
	for rid, o := range dead {
		keys = append(keys, p.keys.second(rid))
		args = append(append(args, rid), o.args()...)
	}
	return &call{script: buryScript, keys: keys, args: args}
}

// reviveCall tells second copies on a partition that they are of messages that
// are ready.
func (p *partition) reviveCall(rids []string, hidden time.Duration) *call {
	keys, args := []string{p.keys.seconds()}, []any{hidden.Milliseconds()}
	for _, rid := range rids {
		keys, args = append(keys, p.keys.second(rid)), append(args, rid)
	}
	return &call{script: reviveScript, keys: keys, args: args}
}

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
	var push []any
	var done []string
	var gone []goneCopy
	dead := map[string]*obituary{}
	for _, n := range notes {
		switch {
		case n.dead != nil:
			dead[n.recordID] = n.dead
		case n.overdue > 0:
			push = append(push, n.recordID, n.overdue.Milliseconds())
		default:
			if !strings.HasSuffix(n.ref, strayMark) { // else another one asks
				done = append(done, s.p.keys.tombstone(n.recordID))
			}
			gone = append(gone, goneCopy{n.recordID, n.size})
		}
	}
	var calls []*call
	if len(push) > 0 {
		calls = append(calls, &call{script: pushScript, keys: []string{to.keys.seconds()}, args: push})
	}
	if len(dead) > 0 {
		calls = append(calls, to.buryCall(dead))
	}
	if len(gone) > 0 {
		calls = append(calls, to.deleteCopiesCall(gone...))
	}
	if err := runEach(ctx, to, calls); err != nil || len(done) == 0 {
		return err
	}
	return s.p.client().Unlink(s.p.with(ctx), done...).Err()
}

// A goneCopy is a second copy that is of no use any more.
type goneCopy struct {
	recordID string
	size     int64 // of its body, if that lies in chunks
}

// deleteCopiesScript deletes second copies, with their bodies. One that was made a
// message meanwhile, as the node of its first was away, is none: its body is that
// message's.
//
//	KEYS[1]  T:y
//	KEYS[2]… for each the copy, then its chunks
//	ARGV     for each its record id, and how many chunks it has
var deleteCopiesScript = newScript(`
local at = 2
for i = 1, #ARGV, 2 do
  if redis.call('UNLINK', KEYS[at]) == 1 then
    for j = at + 1, at + ARGV[i+1] do redis.call('UNLINK', KEYS[j]) end
  end
  redis.call('ZREM', KEYS[1], ARGV[i])
  at = at + 1 + ARGV[i+1]
end
return 1
`)

// deleteCopiesCall deletes second copies on a partition.
func (p *partition) deleteCopiesCall(copies ...goneCopy) *call {
	keys, args := []string{p.keys.seconds()}, []any{}
	for _, c := range copies {
		chunks := p.keys.chunks(c.recordID, c.size)
		keys = append(append(keys, p.keys.second(c.recordID)), chunks...)
		args = append(args, c.recordID, len(chunks))
	}
	return &call{script: deleteCopiesScript, keys: keys, args: args}
}
