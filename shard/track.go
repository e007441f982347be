package shard

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// A Tracking hears which keys of a node change, whoever changes them, but for what
// Writer has written: client-side caching as Redis has it since version 6 (CLIENT
// TRACKING with BCAST and NOLOOP).
//
// The server tells of what others than the connection change for which that is on, which
// is the Writer's only one; and it tells another one, which has subscribed: in RESP2 it
// cannot tell the same. So nothing is heard any more when either of them ends. The one
// that listens counts as a subscription, and so the server bounds what it keeps for a
// process that stands still (client-output-buffer-limit).
//
// What happens to it is not reported to anybody, but for what Writer is used for.
type Tracking struct {
	node   *Node
	prefix string
	heard  redis.UniversalClient // of sub
	sub    *redis.PubSub
	id     atomic.Int64 // of its connection, at the server
	asks   redis.UniversalClient
	lose   func() // ends sub
}

// invalidated is the channel on which Redis tells a client without RESP3 of keys.
const invalidated = "__redis__:invalidate"

var (
	// ErrUntracked means that this kind of node cannot be tracked: several servers have
	// its keys, or which one has them may change without a connection's end.
	ErrUntracked = errors.New("shard: the keys of such a node cannot be tracked")
	errRedialed  = errors.New("shard: the connection that is tracked is another one now")
)

// trail is what a node knows of its Tracking.
type trail struct {
	options *redis.UniversalOptions // nil if it cannot be tracked
	dialed  atomic.Int64            // connections of Writer
	current atomic.Pointer[Tracking]
}

// openWriter makes the client for Writer, which has one connection. Where it is dialed
// again, nobody can say what was missed.
func (n *Node) openWriter(u *redis.UniversalOptions) redis.UniversalClient {
	w := *u
	w.PoolSize = 1
	w.OnConnect = func(context.Context, *redis.Conn) error {
		n.trail.dialed.Add(1)
		if t := n.trail.current.Load(); t != nil {
			t.lose()
		}
		return nil
	}
	return redis.NewUniversalClient(&w)
}

// Track prepares to hear of the keys with a prefix that are written, deleted or evicted,
// or expire. There is one at a time. The caller closes it.
func (n *Node) Track(ctx context.Context, prefix string) (*Tracking, error) {
	if n.trail.options == nil {
		return nil, ErrUntracked
	}
	asks, hears := *n.trail.options, *n.trail.options
	hears.ReadBufferSize = 64 << 10
	hears.Dialer = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := asks.Dialer(ctx, network, address)
		return &paced{Conn: conn}, err
	}
	t := &Tracking{node: n, prefix: prefix, asks: redis.NewUniversalClient(&asks)}
	hears.OnConnect = func(ctx context.Context, c *redis.Conn) error {
		id, err := c.ClientID(ctx).Result()
		t.id.Store(id)
		return err
	}
	t.heard = redis.NewUniversalClient(&hears)
	ctx, cancel := context.WithTimeout(ctx, 2*n.timeout)
	defer cancel()
	t.sub = t.heard.Subscribe(ctx, invalidated)
	t.lose = sync.OnceFunc(func() { t.sub.Close() }) //nolint:errcheck // nothing is lost with it
	msg, err := Receive(ctx, t.sub, n.timeout)
	if _, ok := msg.(*redis.Subscription); !ok {
		t.Close()
		return nil, fmt.Errorf("tracking node %q: %v: %w", n.name, msg, err)
	}
	return t, nil
}

// Begin has the server tell of all that changes from when it returns on. What Writer
// writes is told no more from when it is called.
func (t *Tracking) Begin(ctx context.Context) error {
	w, trail := t.node.writer, &t.node.trail
	if err := w.Ping(ctx).Err(); err != nil { // it has its connection now
		return err
	}
	dialed := trail.dialed.Load()
	w.Do(ctx, "client", "tracking", "off") // the one before
	if err := w.Do(ctx, "client", "tracking", "on", "redirect", t.id.Load(), "bcast", "prefix", t.prefix, "noloop").Err(); err != nil {
		return err
	}
	trail.current.Store(t)
	if trail.dialed.Load() != dialed {
		return errRedialed
	}
	return nil
}

// Receive returns the next keys that have changed; none when the server has said nothing
// for silence, but answered then. Any error means that keys may have been missed.
func (t *Tracking) Receive(ctx context.Context, silence time.Duration) ([]string, error) {
	msg, err := Receive(ctx, t.sub, silence)
	if isTimeout(err) {
		msg, err = t.ask(ctx)
	}
	switch m := msg.(type) {
	case *redis.Message:
		return m.PayloadSlice, nil
	case *redis.Pong:
		return nil, nil
	}
	return nil, fmt.Errorf("tracking: %T: %w", msg, err)
}

// ask asks whether both connections are there, and returns what comes next.
func (t *Tracking) ask(ctx context.Context) (any, error) {
	if err := t.node.writer.Ping(ctx).Err(); err != nil && !errors.Is(err, redis.ErrPoolTimeout) { // it is at work
		return nil, err
	}
	if err := t.sub.Ping(ctx); err != nil {
		return nil, err
	}
	return Receive(ctx, t.sub, max(t.node.timeout, time.Second))
}

// inGlob writes a key as a pattern that only it matches.
var inGlob = strings.NewReplacer(`*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`, `\`, `\\`)

// Count returns how many keys the server's database has, of any prefix.
func (t *Tracking) Count(ctx context.Context) (int64, error) { return t.asks.DBSize(ctx).Result() }

// Scan calls found for each key with the prefix that is there all the time until it
// returns, and maybe for others.
func (t *Tracking) Scan(ctx context.Context, found func(key string)) error {
	const page = 500 // takes the server less than half a millisecond
	for cursor := uint64(0); ; {
		keys, next, err := t.asks.Scan(ctx, cursor, inGlob.Replace(t.prefix)+"*", page).Result()
		if err != nil {
			return err
		}
		for _, key := range keys {
			found(key)
		}
		if cursor = next; cursor == 0 {
			return nil
		}
		if err := pause(ctx, time.Millisecond); err != nil { // others are served meanwhile
			return err
		}
	}
}

// Close ends it. It may be called more than once, also while another goroutine receives.
func (t *Tracking) Close() {
	t.lose()
	t.heard.Close() //nolint:errcheck // nothing is lost with it
	t.asks.Close()  //nolint:errcheck // likewise
	if t.node.trail.current.CompareAndSwap(t, nil) {
		ctx, cancel := context.WithTimeout(context.Background(), t.node.timeout)
		defer cancel()
		t.node.writer.Do(ctx, "client", "tracking", "off") // if it is not gone itself
	}
}

// A paced connection is read at most every few milliseconds: a server that is written to
// sends many small messages, and to be woken up for each costs more than to read it.
type paced struct {
	net.Conn
	heard bool // something, by the last read
}

// pace is how much later a key may be heard of by that.
const pace = 4 * time.Millisecond

func (p *paced) Read(b []byte) (int, error) {
	if p.heard {
		time.Sleep(pace)
	}
	n, err := p.Conn.Read(b)
	p.heard = n > 0
	return n, err
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
