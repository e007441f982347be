package fluster

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bits-and-blooms/bloom/v3"
	"go.uber.org/zap"

	"github.com/caddy-fluster/caddy-fluster/shard"
)

// A digest says of which entries a node may have something, and so of which it has
// nothing: a lookup there is spared then. (Squid calls by that name what caches tell one
// another. Here it is the server that tells, whoever stores.)
//
// The invariant: whatever lies on the node is in the digest while the digest is believed,
// but for what was stored a moment ago and this process has yet to hear of. So it is made
// of what is heard of and, after that has begun, of a scan. It is believed no more when
// anything may have been missed, which is a lost connection, or when the server has been
// silent for longer than it is asked.
//
// An entry that is not in it but on the node is a forward too many, and no more: what is
// fetched is newer than the entry. (That others may store what is older a moment later is
// so without a digest, too; see newest.) What is in it and gone costs a lookup.
type digest struct {
	keys   atomic.Pointer[keySet] // nil, or not whole: anything may be there
	heard  atomic.Int64           // when the server last said something: ns since began
	spared atomic.Int64           // lookups
	wanted chan struct{}          // holds a token when a lookup would have looked into it
}

func newDigest() *digest { return &digest{wanted: make(chan struct{}, 1)} }

const (
	// heardEvery is the longest silence before the server is asked whether it is there,
	// and believedFor how long a digest is believed after a word of it. It is less than
	// settleFor: until then what is served and not known to be older is noted.
	heardEvery  = 4 * time.Second
	believedFor = 6 * time.Second
	// renewEvery is how often a digest is made anew: what has expired leaves it then.
	renewEvery = 5 * time.Minute
	// A digest of a node has room for at least leastKeys, and those of a pool for allKeys
	// together, at 10 bits each: 15 MB.
	leastKeys = 1 << 16
	allKeys   = 12 << 20
	// A digest is of no use where this many keys are heard of for each lookup that it
	// spares: others store what this process is not asked for.
	worthless = 16
	// toldWithin is longer than it takes until a key that was written is heard of.
	toldWithin = time.Second
	// sampleOf is of how many lookups that could be spared one is not.
	sampleOf = 64
)

// began is what times are told by that no clock can set back.
var began = time.Now()

// lacks reports whether the node surely has nothing under a key, which is that of an
// entry.
func (d *digest) lacks(key string) bool {
	s := d.keys.Load()
	if s == nil {
		select {
		case d.wanted <- struct{}{}:
		default:
		}
		return false
	}
	return s.whole.Load() && int64(time.Since(began))-d.heard.Load() <= int64(believedFor) && !s.has(key)
}

// spares reports whether a lookup is spared of what the digest lacks. Where the journal is
// not proven the node is asked, which proves it; and it is one time in so many, so that a
// node that cannot be read is found out, and a digest that is wrong (see wasFound).
func (n *node) spares(now time.Time) bool {
	if _, proven := n.view.Stamp(now); !proven {
		return false
	}
	if n.digest.spared.Add(1)%sampleOf == 0 {
		return false
	}
	metrics.spared.Inc()
	return true
}

// wasFound notes that something lies under a key that the digest lacked. If it still does
// when that must have been heard of, it is made anew.
func (d *digest) wasFound(key string) {
	s := d.keys.Load()
	if s == nil || !s.whole.Load() {
		return
	}
	time.AfterFunc(toldWithin, func() {
		if !s.has(key) {
			s.whole.Store(false)
			s.close()
		}
	})
}

// add notes that this process has written a key, or may have: after that, so that it is
// either there before a scan begins or in the set.
func (d *digest) add(key string) {
	if s := d.keys.Load(); s != nil {
		s.add(key)
	}
}

// keySet is a set of keys, to which others may seem to belong: one in a hundred.
// It is safe for concurrent use.
type keySet struct {
	whole atomic.Bool // all that was there before is in it

	mu     sync.RWMutex // guards all below
	filter *bloom.BloomFilter
	room   int // how many more keys it has room for
}

func newKeySet(n int) *keySet {
	return &keySet{filter: bloom.NewWithEstimates(uint(n), 0.01), room: n}
}

func (s *keySet) has(key string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.filter.TestString(key)
}

func (s *keySet) add(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.filter.TestOrAddString(key) {
		s.room--
	}
}

// close lets no more keys in: it is full.
func (s *keySet) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.room = 0
}

func (s *keySet) isFull() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.room <= 0
}

var (
	errRenew     = errors.New("it is to be made anew")
	errTooMany   = errors.New("the server has too many keys")
	errWorthless = errors.New("it spares too few lookups")
)

// digestKeys keeps the node's digest, while that can be had and somebody asks for it.
func (n *node) digestKeys(ctx context.Context) {
	const first, longest = time.Second, time.Minute
	wait := first
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.digest.wanted:
		}
		if !n.inUse() {
			continue
		}
		start := time.Now()
		err := n.followKeys(ctx)
		n.digest.keys.Store(nil)
		switch {
		case time.Since(start) > longest:
			wait = first
		case errors.Is(err, shard.ErrUntracked):
			return
		case errors.Is(err, errTooMany), errors.Is(err, errWorthless):
			wait = renewEvery
		case !errors.Is(err, errRenew):
			wait = min(2*wait, longest)
		}
		if c := n.state.log().Check(zap.DebugLevel, "no digest of a node"); c != nil && ctx.Err() == nil {
			c.Write(zap.String("node", n.Name()), zap.Error(err))
		}
		if !errors.Is(err, errRenew) {
			sleep(ctx, wait/2+rand.N(wait/2))
		}
	}
}

// followKeys makes a digest and keeps it. It returns why no longer.
func (n *node) followKeys(ctx context.Context) error {
	t, err := n.Track(ctx, n.journal.bucket.entries())
	if err != nil {
		return err
	}
	defer t.Close()
	defer context.AfterFunc(ctx, t.Close)()
	count, err := t.Count(ctx)
	switch {
	case err != nil:
		return err
	case count > int64(n.maxKeys/2):
		return errTooMany
	}
	set := newKeySet(min(max(leastKeys, 4*int(count)), n.maxKeys))
	n.digest.keys.Store(set) // the first, as the writer's own are not heard of
	if err := t.Begin(ctx); err != nil {
		return err
	}
	scanning, stop := context.WithCancel(ctx)
	var scan sync.WaitGroup
	defer scan.Wait()
	defer stop()
	scan.Go(func() {
		if t.Scan(scanning, set.add) != nil {
			t.Close() // and so hear ends
			return
		}
		set.whole.Store(true)
	})
	return n.digest.hear(ctx, t, set)
}

// hear adds to the set what changes. It returns why it is to be believed no more.
func (d *digest) hear(ctx context.Context, t *shard.Tracking, set *keySet) error {
	told, spared, until, weigh := int64(0), d.spared.Load(), time.Now().Add(renewEvery), time.Now().Add(time.Minute)
	for {
		d.heard.Store(int64(time.Since(began)))
		keys, err := t.Receive(ctx, heardEvery)
		if err != nil {
			return err
		}
		for _, key := range keys {
			set.add(key)
		}
		now := time.Now()
		switch told += int64(len(keys)); {
		case now.After(until), set.isFull():
			return errRenew
		case now.After(weigh):
			if told > worthless*(d.spared.Load()-spared)+leastKeys/8 {
				return errWorthless
			}
			told, spared, weigh = 0, d.spared.Load(), now.Add(time.Minute)
		}
	}
}
