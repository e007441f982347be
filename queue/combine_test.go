package queue

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// TestCombiner has many callers who leave whenever they like. What always holds:
// what is said to be sent is there once, what is said not to be is not, and each
// caller has the answer to its own command.
func TestCombiner(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := newRig(t, 1, Options{})
	p := r.c.partitions[0]
	type said struct {
		err   error
		reply string
	}
	var mu sync.Mutex
	all := map[string]said{}
	var wg sync.WaitGroup
	for caller := range 100 {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(caller)))
			for i := range 50 {
				name := fmt.Sprintf("%d-%d", caller, i)
				ctx, cancel := context.WithCancel(t.Context())
				switch random.IntN(3) {
				case 0:
					ctx, cancel = context.WithTimeout(t.Context(), time.Duration(random.IntN(1500))*time.Microsecond)
				case 1:
					cancel()
				}
				s := &sending{bytes: random.IntN(maxPipelineBytes / 20)}
				s.cmds = []redis.Cmder{
					once{redis.NewCmd(ctx, "rpush", "{q}all", name)},
					once{redis.NewCmd(ctx, "echo", name)},
				}
				err := p.combiner.do(ctx, s)
				cancel()
				it := said{err: err}
				if err == nil {
					// With too little of a processor, even this server is late.
					it.reply, it.err = s.cmds[1].(once).Text()
				}
				mu.Lock()
				all[name] = it
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	time.Sleep(50 * time.Millisecond) // those who were left alone with it
	times := map[string]int{}
	for _, name := range r.raw().LRange(t.Context(), "{q}all", 0, -1).Val() {
		times[name]++
	}
	sent, notSent, left := 0, 0, 0
	for name, it := range all {
		n := times[name]
		switch {
		case it.err == nil:
			if sent++; n != 1 || it.reply != name {
				t.Errorf("%s was sent, and is there %d times; the answer was %q", name, n, it.reply)
			}
		case errors.Is(it.err, errNotSent):
			if notSent++; n != 0 {
				t.Errorf("%s was not sent, and is there %d times", name, n)
			}
		default:
			if left++; n > 1 {
				t.Errorf("%s is there %d times, after %v", name, n, it.err)
			}
		}
	}
	t.Logf("%d sent, %d not sent, %d left", sent, notSent, left)
	if sent == 0 || notSent == 0 || left == 0 {
		t.Error("not all three happened")
	}
	if p.combiner.leaders != 0 || len(p.combiner.waiting) != 0 {
		t.Errorf("in the end %d lead and %d wait", p.combiner.leaders, len(p.combiner.waiting))
	}
}

func TestCombinerPassesTheLeadOfOneWhoLeaves(t *testing.T) {
	c := &combiner{flying: 1, leaders: 1}
	waiting := func() *sending { return &sending{wake: make(chan bool, 1)} }
	first, second := waiting(), waiting()
	c.waiting = []*sending{first, second}
	c.passOnLocked() // somebody's pipeline is back
	if err := c.leave(first); !errors.Is(err, errNotSent) || !<-first.wake {
		t.Errorf("got %v, want %v from the one who was to lead", err, errNotSent)
	}
	if len(second.wake) != 1 || !<-second.wake {
		t.Error("the next one does not lead")
	}
	if err := c.leave(second); !errors.Is(err, errNotSent) || c.leaders != 0 || len(c.waiting) != 0 {
		t.Errorf("in the end %d lead and %d wait, %v", c.leaders, len(c.waiting), err)
	}
}

func TestCombinerTurnsAwayThoseWhoWaitForAServerThatIsSilent(t *testing.T) {
	r := newRig(t, 1, Options{})
	p := r.c.partitions[0]
	r.servers[0].Pause()
	began := time.Now()
	var wg sync.WaitGroup
	var mu sync.Mutex
	unknown, notSent := 0, 0
	for range 300 {
		wg.Go(func() {
			s := &sending{bytes: maxPipelineBytes / 8, cmds: []redis.Cmder{once{redis.NewCmd(t.Context(), "incr", "{q}n")}}}
			err := p.combiner.do(t.Context(), s)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case errors.Is(err, errNotSent):
				notSent++
			case err == nil && s.cmds[0].Err() != nil:
				unknown++
			default:
				t.Errorf("got %v, %v", err, s.cmds[0].Err())
			}
		})
	}
	wg.Wait()
	if took := time.Since(began); took > 900*time.Millisecond {
		t.Errorf("it took %v, want one or two time-outs of 300ms", took)
	}
	r.servers[0].Resume()
	eventually(t, 30*time.Second, "no more is done than was sent", func() bool {
		n, err := r.raw().Get(t.Context(), "{q}n").Int()
		return (err == nil || errors.Is(err, redis.Nil)) && n <= unknown
	})
	if notSent < 250 {
		t.Errorf("%d were not sent, want most", notSent)
	}
}

func TestCombinerLetsPipelinesGoOneByOneAtAServerThatIsNear(t *testing.T) {
	c := &combiner{flying: 2, spread: time.Hour, leaders: 1, began: time.Now()}
	s := &sending{wake: make(chan bool, 1)}
	c.waiting = []*sending{s}
	if c.takeLeadLocked(s) || c.leaders != 1 {
		t.Error("a second one goes just behind the first")
	}
	c.began = time.Now().Add(-2 * time.Hour)
	if !c.takeLeadLocked(s) || c.leaders != 2 {
		t.Error("none goes though the first is under way for long")
	}
	c.began, s.lead = time.Now(), false
	if c.passOnLocked(); c.leaders != 1 || s.lead || len(s.wake) != 0 {
		t.Error("one that is back is followed by another while a second one has just begun")
	}
	if c.passOnLocked(); c.leaders != 1 || !s.lead || len(s.wake) != 1 {
		t.Error("the last one that is back does not pass the lead on")
	}
}

func TestCombinerDoesNotWaitForAPipelineThatStalls(t *testing.T) {
	r := newRig(t, 1, Options{})
	c := &r.c.partitions[0].combiner
	r.servers[0].Pause()
	defer r.servers[0].Resume()
	var wg sync.WaitGroup
	defer wg.Wait()
	for range 2 {
		wg.Go(func() {
			c.do(t.Context(), &sending{cmds: []redis.Cmder{once{redis.NewCmd(t.Context(), "incr", "{q}n")}}}) //nolint:errcheck // it fails
		})
	}
	eventually(t, 250*time.Millisecond, "both are under way", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.leaders == 2
	})
}
