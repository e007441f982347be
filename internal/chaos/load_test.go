package chaos

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	clients  = 6
	pause    = 8 * time.Millisecond  // of a client between two requests
	churning = 25 * time.Millisecond // between two new versions
	beating  = 15 * time.Millisecond
)

// drive is the load: clients that ask, an origin that changes, and those that
// invalidate. It returns when ctx ends.
func (r *run) drive(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for i := range clients {
		dice := rand.New(rand.NewPCG(r.seed, uint64(100+i)))
		wg.Go(func() {
			every(ctx, pause, func() { r.judge.ask(dice.IntN(len(r.caddies)), somePage(dice)) })
		})
	}
	for i := range r.caddies {
		wg.Go(func() { every(ctx, beating, func() { r.judge.beat(i) }) })
		dice := rand.New(rand.NewPCG(r.seed, uint64(200+i)))
		wg.Go(func() { every(ctx, 100*time.Millisecond, func() { r.invalidate(ctx, i, dice) }) })
	}
	wg.Go(func() {
		dice := rand.New(rand.NewPCG(r.seed, 300))
		every(ctx, churning, func() { r.origin.churn(dice) })
	})
	wg.Go(func() {
		dice := rand.New(rand.NewPCG(r.seed, 400))
		every(ctx, 100*time.Millisecond, func() { r.publish(ctx, dice) })
	})
}

// somePage is more often one of the first.
func somePage(dice *rand.Rand) int { return min(dice.IntN(pages), dice.IntN(pages)) }

// every calls f, and again that long after it is done, until ctx ends.
func every(ctx context.Context, d time.Duration, f func()) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		f()
		timer.Reset(d)
	}
}
