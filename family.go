package fluster

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/caddy-fluster/caddy-fluster/journal"
	"github.com/caddy-fluster/caddy-fluster/shard"
)

// A family is all parts of one Redis Cluster. They are polled together: each
// master is sent one pipeline for all the heads that lie on it, and no more than
// a few in a second however many parts there are.
type family struct {
	parts []*node // by bucket
	began time.Time
	out   atomic.Int32 // parts that are out of use
	history

	syncing chan struct{} // holds a token for each part that is being put to use

	mu      sync.Mutex // guards leavers
	leavers []leaver   // whose leave is to be marked

	polling chan struct{} // holds a token while somebody polls; guards all below
	sent    time.Time     // when the last poll was sent
	sights  []sight       // what it read, by bucket
}

// leaveWithin is how long a part that leaves waits for others: they leave together,
// with their master, and one mark serves them all.
const leaveWithin = 20 * time.Millisecond

// leave marks that a part goes out of use.
func (f *family) leave(ctx context.Context, l leaver) {
	f.mu.Lock()
	f.leavers = append(f.leavers, l)
	first := len(f.leavers) == 1
	f.mu.Unlock()
	if !first {
		return // whoever was the first does it
	}
	sleep(ctx, leaveWithin)
	f.mu.Lock()
	all := f.leavers
	f.leavers = nil
	f.mu.Unlock()
	l.node.state.markAway(ctx, all)
}

// sight is the head of one part as a poll read it.
type sight struct {
	head journal.Head
	ok   bool // there is a head
	err  error
	news bool // its part has not looked at it yet
}

func newFamily(parts []*node) *family {
	return &family{
		parts: parts, began: time.Now(), syncing: make(chan struct{}, syncsAtOnce),
		polling: make(chan struct{}, 1), sights: make([]sight, len(parts)),
	}
}

// syncsAtOnce is how many parts are put to use at one time. All 64 of them would
// take each other's time, and fail for that on a machine that has little.
const syncsAtOnce = 8

// pollLasts is for how long what a poll has read serves the others: as that much
// older a proof is, all of it and the time between two polls must be within the
// lease.
const pollLasts = pollEvery * 3 / 4

// head returns the head of n as the last poll read it, which was sent at sent. If
// that was too long ago, or was returned for n before, it polls.
func (f *family) head(ctx context.Context, n *node) (head journal.Head, ok bool, sent time.Time, err error) {
	select {
	case f.polling <- struct{}{}:
	case <-ctx.Done():
		return head, false, sent, ctx.Err()
	}
	defer func() { <-f.polling }()
	s := &f.sights[n.journal.number]
	if !s.news || time.Since(f.sent) > pollLasts {
		f.poll(ctx, n)
	}
	s.news = false
	return s.head, s.ok, f.sent, s.err
}

// poll reads the heads of all parts that are in use, and that of n.
func (f *family) poll(ctx context.Context, n *node) {
	clear(f.sights)
	var asked []*node
	var parts []*shard.Node
	var keys []string
	for _, part := range f.parts {
		if part == n || part.inUse() {
			asked, parts, keys = append(asked, part), append(parts, part.Node), append(keys, part.journal.bucket.head())
		}
	}
	f.sent = time.Now()
	for i, v := range shard.ReadParts(ctx, parts, keys) {
		s := sight{err: v.Err, news: true}
		if redis.HasErrorPrefix(v.Err, "WRONGTYPE") {
			s.err = nil // who reads on sees what lies there instead
		}
		s.head, s.ok = journal.ParseHead(string(v.Value))
		f.sights[asked[i].journal.number] = s
	}
}
