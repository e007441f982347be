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
	rateKept = rateAhead
)

// A rate bounds deliveries a second, of all workers everywhere: one node at a
// time keeps count, by its own clock. Its zero value bounds nothing. Safe for
// concurrent use.
type rate struct {
	mu     sync.Mutex // guards all below
	perSec float64    // 0: unbounded
	have   int        // deliveries that were taken from the node and not used
	until  time.Time  // when they are for the node again
	from   *partition // the node that they are of
	asking slots      // one asks the node, the others wait for what it brings
}

func (r *rate) set(perSec float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if perSec != r.perSec {
		r.have = 0 // of another rate
	}
	r.perSec = perSec
	r.asking.setLimit(1)
}

// isBounded reports whether there is a rate.
func (r *rate) isBounded() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.perSec > 0
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
		wait := r.ask(ctx, c, true)
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
	if r.have <= 0 || time.Now().After(r.until) {
		return 0, false
	}
	n = min(n, r.have)
	r.have -= n
	return n, true
}

// giveBack gives back what was not used. Where one delivery takes longer than rateAhead
// others must not wait for it in vain: the node has it back at once.
func (r *rate) giveBack(ctx context.Context, c *Client, n int) {
	r.mu.Lock()
	perSec := r.perSec
	if perSec > 0 {
		r.have += n
	}
	r.mu.Unlock()
	if perSec > 0 && perSec*rateAhead.Seconds() <= 1 {
		r.ask(context.WithoutCancel(ctx), c, false)
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
//	ARGV[4] how many were taken before, and are given back
//
// It returns how many may begin, and if none, in how many µs to ask again: when
// half of what is wanted may, so that not each delivery asks.
var rateScript = newScript(`
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local each, want, tolerance, unused = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local due = redis.pcall('HGET', KEYS[1], 't')
if type(due) == 'table' then redis.call('UNLINK', KEYS[1]) end -- it is no hash: somebody else's
due = tonumber(due) or 0
if due > now + 60000000 + each then due = now end -- the clock was set back
due = math.max(due - unused * each, now)
local may = math.max(math.min(want, math.floor((now + tolerance - due) / each) + 1), 0)
due = due + may * each
if may + unused > 0 then
  redis.call('HSET', KEYS[1], 't', string.format('%.0f', due))
  redis.call('PEXPIRE', KEYS[1], math.ceil((due - now) / 1000) + 1000)
end
if may > 0 then return {may, 0} end
return {0, math.ceil(due - tolerance - now + math.floor(want / 2) * each)}
`)

// ask gives what is here back to the node, takes some from it unless that was all, and
// returns how long to wait before taking or asking again.
func (r *rate) ask(ctx context.Context, c *Client, more bool) time.Duration {
	p := c.rateKeeper()
	r.mu.Lock()
	perSec, unused := r.perSec, r.have
	if r.from != p {
		unused = 0 // it was of a node that keeps count no more
	}
	r.have = 0
	r.mu.Unlock()
	if perSec == 0 {
		return 0
	}
	if p == nil {
		return restPoll
	}
	each := 1e6 / perSec
	tolerance := float64(rateAhead.Microseconds())
	want := max(1, int(tolerance/each))
	if each > tolerance {
		tolerance = 0
	}
	if !more {
		want = 0
	}
	res, err := rateScript.run(ctx, p, []string{p.keys.bucket()}, each, want, tolerance, unused).Int64Slice()
	p.report(ctx, err)
	if err != nil || len(res) != 2 {
		return restPoll
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if res[0] > 0 {
		r.have, r.until, r.from = r.have+int(res[0]), time.Now().Add(rateKept), p
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
