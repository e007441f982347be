package queue

import (
	"context"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/redis/go-redis/v9"

	"github.com/caddy-fluster/caddy-fluster/shard"
)

// For how long a partition rests that fails: first and longest. Each failure in
// a row doubles it. A connection that ends may be nothing but a connection; where
// none is to be had, trying costs little; a server that does not answer costs
// whoever asks it again a time-out.
const (
	restEnded   = 10 * time.Millisecond
	restBroken  = 100 * time.Millisecond
	restSilent  = 300 * time.Millisecond
	restLongest = 2 * time.Second
	restWrites  = 200 * time.Millisecond // answers, and takes no writes
	probeTime   = 400 * time.Millisecond // for the one who tries whether it is back
)

// A partition is one part of the queue, and what this process knows of whether
// it can be used. It is safe for concurrent use.
type partition struct {
	node   *shard.Node
	number int
	index  int // in Client.partitions
	ref    string
	keys   keys
	seed   uint64 // a hash of its name, for rendezvous

	streams map[string]any // the keys of the streams, by lane: strings

	owner      *Client
	rest       rest
	combiner   combiner
	known      known
	durability durability
	taken      taken
	stray      stray
}

func newPartition(c *Client, p Partition, index int) *partition {
	o := c.o
	out := &partition{owner: c, node: p.Node, number: p.Number, index: index, keys: newKeys(o.Namespace, o.Name, p.Number), streams: map[string]any{}}
	for _, lane := range c.lanes {
		out.streams[lane] = out.keys.stream(lane)
	}
	out.ref = p.Node.Name() + "/" + strconv.Itoa(p.Number)
	out.seed = mix(xxhash.Sum64String(out.ref))
	out.combiner.partition, out.combiner.flying, out.combiner.spread = out, maxFlying, spread
	if c.asksMore() {
		out.combiner.flying, out.combiner.spread = maxFlyingDurable, 0
	}
	out.durability.ack = o.Ack
	return out
}

func (p *partition) client() redis.UniversalClient { return p.node.Client() }

// bulk returns the client for what is large.
func (p *partition) bulk() redis.UniversalClient { return p.node.Bulk() }

func (p *partition) with(ctx context.Context) context.Context { return p.node.With(ctx) }

// available reports whether the partition may be used now. It may not while it
// rests; when that is over, one caller alone is let through, who must report
// what came of it.
func (p *partition) available() bool { return p.rest.admit(time.Now(), reading) }

// report takes what a command, or the connection, ended with. ctx is the caller's.
func (p *partition) report(ctx context.Context, err error) {
	p.rest.report(time.Now(), judge(ctx, err))
}

// draw returns the number that the partition draws for a key (see shard's ring);
// the highest is the first to be asked.
func (p *partition) draw(hash uint64) float64 {
	u := (float64(mix(p.seed^hash)>>11) + 0.5) * 0x1p-53
	return -p.node.Weight() / math.Log(u)
}

// mix is the finalizer of SplitMix64: every bit of its result depends on every
// bit of x.
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}

// machine returns the name of the server that has the partition now, as far as
// this process knows: of two partitions with the same name both go at once.
func (p *partition) machine(ctx context.Context) string {
	if c, ok := p.node.Client().(*redis.ClusterClient); ok {
		if master, err := c.MasterForKey(ctx, p.keys.delayed()); err == nil {
			return p.node.Name() + " " + master.Options().Addr
		}
		return p.ref
	}
	return p.node.Name()
}

// A verdict is what the end of a command says about whether to come back.
type verdict uint8

const (
	nothing   verdict = iota // it says nothing
	answered                 // the server is there
	noWrites                 // it is there, and full, read-only or loading
	notItself                // it is there, and does not do what it is for
	ended                    // the connection ended
	broken                   // no connection is to be had
	silent                   // no answer in time
)

// judge tells what err, with which a command ended, says about the server.
func judge(ctx context.Context, err error) verdict {
	outcome := shard.Classify(ctx, err)
	var reply redis.Error
	if outcome != shard.OK && errors.As(err, &reply) {
		return judgeReply(outcome, reply.Error())
	}
	switch outcome {
	case shard.OK:
		return answered
	case shard.Slow:
		return silent
	case shard.Refused:
		if dial := (*net.OpError)(nil); errors.As(err, &dial) && dial.Op != "dial" || errors.Is(err, io.EOF) {
			return ended
		}
		return broken
	}
	return nothing
}

// judgeReply judges an error that the server sent.
func judgeReply(outcome shard.Outcome, text string) verdict {
	// Before Redis 7, what a command says within a script is in the middle.
	for _, code := range []string{"OOM ", "READONLY ", "MISCONF ", "NOREPLICAS "} {
		if strings.HasPrefix(text, code) || strings.Contains(text, "-"+code) {
			return noWrites
		}
	}
	switch outcome {
	case shard.Refused, shard.Slow:
		return notItself
	}
	return answered
}

// A use is what for a partition is wanted.
type use bool

const (
	reading use = false
	writing use = true
)

// A rest is the time for which a partition is not used.
//
// Of those who find it over, one is let through and the others wait for what it
// reports, or for probeTime should it never say. Success ends the rest; failure
// of that one makes it longer. Failures of what was under way when the rest
// began say nothing new.
type rest struct {
	mu      sync.Mutex
	length  time.Duration // 0: it does not rest
	until   time.Time
	probing bool
	writes  time.Time // until when it takes no writes
}

// admit reports whether a caller may use the partition now.
func (r *rest) admit(now time.Time, u use) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if u == writing && now.Before(r.writes) {
		return false
	}
	if r.length == 0 {
		return true
	}
	if now.Before(r.until) {
		return false
	}
	r.probing = true
	r.until = now.Add(probeTime)
	return true
}

// ready reports what admit would, without being let through.
func (r *rest) ready(now time.Time, u use) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !(u == writing && now.Before(r.writes)) && (r.length == 0 || !now.Before(r.until))
}

// briefly reports whether the partition may be back in no time: whether it is
// worth while to wait for it.
func (r *rest) briefly(now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !now.Before(r.writes) && r.length > 0 && r.length <= restSilent
}

// takes reports whether a message may be sent.
func (r *rest) takes() bool { return r.ready(time.Now(), writing) }

// report takes what came of a use.
func (r *rest) report(now time.Time, v verdict) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch v {
	case answered:
		r.length, r.probing = 0, false
	case noWrites:
		r.length, r.probing = 0, false
		r.writes = now.Add(restWrites)
	case ended:
		r.failLocked(now, restEnded)
	case notItself, broken:
		r.failLocked(now, restBroken)
	case silent:
		r.failLocked(now, restSilent)
	}
}

// failLocked begins a rest, or makes it longer if it was over.
func (r *rest) failLocked(now time.Time, first time.Duration) {
	if r.length > 0 && !r.probing && now.Before(r.until) {
		return
	}
	r.length = min(max(2*r.length, first), restLongest)
	r.probing = false
	// Shorter by up to a quarter, so that not all processes come back at once.
	r.until = now.Add(r.length - rand.N(r.length/4+1))
}
