package queue

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// group is the consumer group of all workers of a queue.
	group = "fluster"
	// nobodyName is the consumer that has what was handed back.
	nobodyName = "-"
	// maxUnrecorded bounds what a source has taken and not yet recorded the end
	// of: where a node takes long to be told, no more is read from it.
	maxUnrecorded = 1024
)

// A source is a partition as one worker sees it.
//
// What is held is what this worker took and has not recorded the end of. An
// entry is held once at most: one that comes again meanwhile (this worker's own
// claim, a group that was made anew) is the same delivery still. One that comes
// with the id of one that is held, and is of another message, is on another server
// than that: two have changed places, or a replica that lacked it has become master.
type source struct {
	w    *Worker
	p    *partition
	name string // of the consumer; no other source ever has it
	room slots  // for what is held

	// Of the read loop. The first of the inlets are those of the options, the others are
	// taken up for as long as something is in them; strays are all those that ever were.
	inlets     []*inlet
	configured int
	strays     map[string]*inlet

	nextClaim, nextSweep, nextFollow time.Time // of the read loop

	mu      sync.Mutex // guards all below
	held    map[entryKey]*held
	left    map[entryKey]time.Time // what is pending to this worker, and not held any more
	results []*result              // that are not recorded
	ended   chan struct{}          // has an element when there are results
	notes   chan copyNote          // what is to be said to where second copies are
}

// An entryKey names an entry on a partition.
type entryKey struct {
	lane *inlet
	id   string
}

// A held is an entry that this worker has.
type held struct {
	entryKey
	values map[string]any // the entry's fields, until they are parsed
	count  int            // deliveries as XPENDING counts them, when it was taken
	since  time.Time
	cancel context.CancelCauseFunc // of its delivery; nil: not begun
	lost   bool
	named  string // the message's id, if the entry has it
	ousted bool   // its place is another message's: what came of it is not recorded
	doubt  bool   // another message with this id may be pending to this consumer, elsewhere

	entry    entry
	recordID string
	d        *Delivery
}

func newSource(w *Worker, p *partition) *source {
	s := &source{
		w: w, p: p, name: w.name + "-" + strconv.Itoa(p.index),
		held: map[entryKey]*held{}, left: map[entryKey]time.Time{},
		ended: make(chan struct{}, 1), notes: make(chan copyNote, maxUnrecorded),
	}
	s.room.setLimit(maxUnrecorded)
	s.inlets = newInlets(w.client.o, w.o.Destination, p.keys)
	s.configured, s.strays = len(s.inlets), map[string]*inlet{}
	return s
}

// hold takes an entry into account, and reports whether it was not held. The read
// loop alone calls it.
func (s *source) hold(h *held) bool {
	h.named, _ = h.values["i"].(string)
	s.oust(h)
	s.mu.Lock()
	defer s.mu.Unlock()
	_, h.doubt = s.left[h.entryKey]
	if old := s.held[h.entryKey]; old != nil {
		old.count = h.count
		return false
	}
	s.held[h.entryKey] = h
	return true
}

// oust loses what is held in the place of another message. It is pending to this
// consumer where it is.
func (s *source) oust(by *held) {
	s.mu.Lock()
	old := s.held[by.entryKey]
	other := old != nil && old.named != by.named
	if other {
		old.ousted = true
	}
	s.mu.Unlock()
	if other {
		s.lose(old)
	}
}

// begin says that a delivery is begun, unless it was lost before.
func (s *source) begin(h *held, cancel context.CancelCauseFunc) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	h.cancel = cancel
	return !h.lost
}

// forgetUncounted ends the holding of an entry that had no leave.
func (s *source) forgetUncounted(h *held) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held[h.entryKey] != h {
		s.room.tryAcquire(1) // it was lost meanwhile, which gave back what it had not taken
		return
	}
	delete(s.held, h.entryKey)
}

// forget ends the holding of an entry, and reports whether it was held.
func (s *source) forget(h *held) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held[h.entryKey] != h {
		return false
	}
	delete(s.held, h.entryKey)
	s.room.release(1)
	return true
}

// lose says that another worker has an entry.
func (s *source) lose(h *held) {
	s.mu.Lock()
	s.leftLocked(h.entryKey)
	cancel, d := h.cancel, h.d
	h.lost = true
	s.mu.Unlock()
	if !s.forget(h) {
		return
	}
	if cancel != nil {
		cancel(ErrLost)
	}
	if d != nil {
		s.w.o.Observe.Lost(d)
	}
}

// trouble tells of an error of the node, and the partition of its end.
func (s *source) trouble(ctx context.Context, doing string, err error) {
	s.p.report(ctx, err)
	if err != nil {
		s.p.taken.doubtClock()
	}
	if err != nil && ctx.Err() == nil {
		s.w.o.Observe.Trouble(s.p.node.Name(), doing, err)
	}
}

// groupScript makes the group of each lane where it is missing, at the
// beginning of the stream: what lies there was never delivered, or its delivery is
// not known any more. A full node must do it too, or it would never drain.
//
//	KEYS[1]  T:l
//	KEYS[2]… streams
//	ARGV[1]  group
//	ARGV[2]… names of the lanes
var groupScript = newScript(`
for i = 2, #KEYS do
  redis.call('HSETNX', KEYS[1], ARGV[i], '0')
  local r = redis.pcall('XGROUP', 'CREATE', KEYS[i], ARGV[1], '0', 'MKSTREAM')
  if r.err and not string.find(r.err, 'BUSYGROUP', 1, true) then return r end
end
return 1
`)

// makeGroups makes the groups that are missing.
func (s *source) makeGroups(ctx context.Context) error {
	keys, names := s.known()
	return groupScript.run(ctx, s.p, keys, append([]any{group}, names...)...).Err()
}

// known returns T:l and the streams, and the names of the lanes.
func (s *source) known() (keys []string, names []any) {
	for _, in := range s.inlets {
		names = append(names, in.name)
	}
	return append([]string{s.p.keys.lanes()}, s.streams()...), names
}

// streams returns the keys of all lanes that are read.
func (s *source) streams() []string {
	keys := make([]string, len(s.inlets))
	for i, in := range s.inlets {
		keys[i] = in.key
	}
	return keys
}

// leaveScript takes a consumer off its lanes.
//
//	KEYS[1]  T:l
//	KEYS[2]… streams
//	ARGV[1]  group
//	ARGV[2]  consumer
//	ARGV[3]  how many ms are long
//	ARGV[4]… names of the lanes
var leaveScript = newScript(luaLeave + `
for i = 2, #KEYS do leave(KEYS[1], ARGV[2+i], KEYS[i], ARGV[1], ARGV[2], tonumber(ARGV[3])) end
return 1
`)

// leave gives back what is pending to this consumer, and takes it off. Where the
// node is away, what is pending becomes visible in time.
func (s *source) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	err := s.giveBackAll(ctx)
	if err == nil {
		keys, names := s.known()
		args := append([]any{group, s.name, (5 * blockFor).Milliseconds()}, names...)
		err = leaveScript.run(ctx, s.p, keys, args...).Err()
	}
	s.trouble(ctx, "leaving", err)
}

// giveBackAll gives back what is pending to this consumer: what it left in its
// place keeps its attempt and stays hidden, the rest it never saw.
func (s *source) giveBackAll(ctx context.Context) error {
	for _, in := range s.inlets {
		for _, mine := range []bool{true, false} {
			ids, err := s.pending(ctx, in, func(k entryKey) bool { return s.knowsLocked(k) == mine })
			if err != nil {
				return err
			}
			if err := s.giveBack(ctx, in, ids, mine); err != nil {
				return err
			}
		}
	}
	return nil
}

// giveBackStray gives back what is pending to this consumer without its knowing:
// what was in a reply that never came.
func (s *source) giveBackStray(ctx context.Context) error {
	for _, in := range s.inlets {
		ids, err := s.pending(ctx, in, func(k entryKey) bool { return !s.knowsLocked(k) })
		if err != nil {
			return err
		}
		if err := s.giveBack(ctx, in, ids, false); err != nil {
			return err
		}
	}
	return nil
}

// knowsLocked reports whether an entry was seen by this worker and may be
// pending to it.
func (s *source) knowsLocked(k entryKey) bool {
	_, left := s.left[k]
	return left || s.held[k] != nil
}

// pending returns the ids of entries of a lane that are pending to this consumer
// and chosen.
func (s *source) pending(ctx context.Context, in *inlet, chosen func(entryKey) bool) (ids []string, err error) {
	pending, err := s.p.client().XPendingExt(s.p.with(ctx), &redis.XPendingExtArgs{
		Stream: in.key, Group: group, Start: "-", End: "+", Count: 4 * maxUnrecorded, Consumer: s.name,
	}).Result()
	if isNoGroup(err) || errors.Is(err, redis.Nil) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range pending {
		if chosen(entryKey{in, p.ID}) {
			ids = append(ids, p.ID)
		}
	}
	return ids, nil
}

// giveBack makes entries nobody's. Those that were tried keep the attempt that
// is counted and stay hidden for a visibility; others are visible to all workers at
// once, as if this one had never had them.
func (s *source) giveBack(ctx context.Context, in *inlet, ids []string, tried bool) error {
	if len(ids) == 0 {
		return nil
	}
	c := s.giveBackCall(in, ids, tried)
	err := c.script.run(ctx, s.p, c.keys, c.args...).Err()
	if isNoGroup(err) {
		return nil
	}
	return err
}

func (s *source) giveBackCall(in *inlet, ids []string, tried bool) *call {
	idle, less := 2*s.w.client.o.Visibility.Milliseconds(), 1
	if tried {
		idle, less = 0, 0
	}
	args := []any{group, s.name, nobodyName, idle, less}
	for _, id := range ids {
		args = append(args, id)
	}
	return &call{script: releaseScript, keys: []string{in.key}, args: args}
}

// leaveInPlace stops to hold an entry without ending it: its node refused what
// came of it. It stays hidden until its visibility is over, and is tried again.
func (s *source) leaveInPlace(h *held) {
	s.mu.Lock()
	s.leftLocked(h.entryKey)
	s.mu.Unlock()
	s.forget(h)
}

// leftLocked notes that an entry may be pending to this worker, and is not held.
func (s *source) leftLocked(k entryKey) {
	now := time.Now()
	for k, at := range s.left {
		if now.Sub(at) > 2*s.w.client.o.Visibility {
			delete(s.left, k)
		}
	}
	s.left[k] = now
}

// resting reports whether the partition is not to be used.
func (p *partition) resting() bool {
	p.rest.mu.Lock()
	defer p.rest.mu.Unlock()
	return p.rest.length > 0
}
