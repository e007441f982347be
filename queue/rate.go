package queue

import (
	"context"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"
)

const (
	// rateAhead is how much of the rate, as time, is taken from the node at once:
	// with 1000/s 50 deliveries.
	rateAhead = 50 * time.Millisecond
	// rateKept is how long what was taken may be kept unused. Longer, and it would
	// come on top of a later rate.
	rateKept = time.Second
)

// A rate bounds deliveries a second, of all workers everywhere: one node at a
// time keeps count, by its own clock. Its zero value bounds nothing. Safe for
// concurrent use.
type rate struct {
	mu     sync.Mutex // guards all below
	perSec float64    // 0: unbounded
	have   int        // deliveries that were taken from the node and not used
	until  time.Time  // when they are void
	asking slots      // one asks the node, the others wait for what it brings
}

func (r *rate) set(perSec float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.perSec = perSec
	r.asking.setLimit(1)
}

// take waits until at least one delivery may begin, and returns how many of n may.
func (r *rate) take(ctx context.Context, c *Client, n int) (int, error) {
	for {
		if k, ok := r.takeHere(n); ok {
			return k, nil
		}
		if err := r.asking.acquire(ctx); err != nil {
			return 0, err
		}
		k, ok := r.takeHere(n) // another may have brought some
		if ok {
			r.asking.release(1)
			return k, nil
		}
		wait := r.ask(ctx, c)
		r.asking.release(1)
		sleep(ctx, wait)
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
	}
}

// takeHere takes from what is here, if anything is.
func (r *rate) takeHere(n int) (int, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.perSec == 0 {
		return n, true
	}
	if r.have == 0 || time.Now().After(r.until) {
		r.have = 0
		return 0, false
	}
	n = min(n, r.have)
	r.have -= n
	return n, true
}

// giveBack gives back what was not used.
func (r *rate) giveBack(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.perSec > 0 && time.Now().Before(r.until) {
		r.have += n
	}
}

// rateScript is the generic cell rate algorithm: T:g holds the time at which the
// next delivery is due by the rate; one may begin up to a tolerance earlier, so
// that what was not used for a moment is not lost.
//
//	KEYS[1] T:g
//	ARGV[1] µs between two deliveries
//	ARGV[2] how many are wanted
//	ARGV[3] tolerance, in µs
//
// It returns how many may begin, and if none, in how many µs to ask again: when
// half of what is wanted may, so that not each delivery asks.
var rateScript = newScript(`
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local each, want, tolerance = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local due = math.max(tonumber(redis.call('HGET', KEYS[1], 't') or 0) or 0, now)
if due > now + 60000000 + each then due = now end -- the clock was set back
local may = math.min(want, math.floor((now + tolerance - due) / each) + 1)
if may < 1 then return {0, math.ceil(due - tolerance - now + math.floor(want / 2) * each)} end
due = due + may * each
redis.call('HSET', KEYS[1], 't', string.format('%.0f', due))
redis.call('PEXPIRE', KEYS[1], math.ceil((due - now) / 1000) + 1000)
return {may, 0}
`)

// ask takes some from the node, and returns how long to wait before taking or
// asking again.
func (r *rate) ask(ctx context.Context, c *Client) time.Duration {
	r.mu.Lock()
	perSec := r.perSec
	r.mu.Unlock()
	if perSec == 0 {
		return 0
	}
	p := c.rateKeeper()
	if p == nil {
		return restPoll
	}
	each := 1e6 / perSec
	tolerance := float64(rateAhead.Microseconds())
	want := max(1, int(tolerance/each))
	if each > tolerance {
		tolerance = 0
	}
	res, err := rateScript.run(ctx, p, []string{p.keys.bucket()}, each, want, tolerance).Int64Slice()
	p.report(ctx, err)
	if err != nil || len(res) != 2 {
		return restPoll
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if res[0] > 0 {
		r.have, r.until = int(res[0]), time.Now().Add(rateKept)
	}
	return min(time.Duration(res[1])*time.Microsecond, time.Second)
}

// rateKeeper returns the partition that keeps count of the rate: the same for
// all workers that can reach the same nodes; nil if none is available.
func (c *Client) rateKeeper() *partition {
	hash := xxhash.Sum64String("rate of " + c.o.Name)
	var best *partition
	var most float64
	for _, p := range c.partitions {
		if p.resting() {
			continue
		}
		if draw := p.draw(hash); best == nil || draw > most {
			best, most = p, draw
		}
	}
	return best
}
