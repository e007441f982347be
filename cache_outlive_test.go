package fluster

import (
	"context"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
)

// Forwards begin and end, and clients go away, at any time: what is left alone ends
// soon after, whatever its age, and nothing else does; what is looked at is young,
// and when all is over nothing is kept.
func TestForwardsThatOutliveTheirClients(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Log("seed", seed)
	synctest.Test(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(seed, 0))
		fs := &flights{open: map[string]*flight{}}
		type forward struct {
			f        *flight
			own      context.Context
			end      func()
			hangUp   context.CancelFunc
			hungUp   time.Time
			began    time.Time
			follower *exchange
		}
		var all []*forward
		begin := func() {
			client, hangUp := context.WithCancel(t.Context())
			w := &forward{f: fs.solo(), hangUp: hangUp, began: time.Now()}
			if r.IntN(4) == 0 { // already, before anybody looks
				w.hungUp = time.Now()
				hangUp()
			}
			if r.IntN(3) == 0 {
				w.follower = &exchange{}
				w.f.followLocked(w.follower, 0)
			}
			w.own, w.end = w.f.outlive(client)
			all = append(all, w)
		}
		const soon = 2*watchEvery + time.Millisecond
		for range 3000 {
			switch i := r.IntN(max(1, len(all))); {
			case len(all) == 0, r.IntN(3) == 0 && len(all) < 50:
				begin()
			case r.IntN(4) == 0:
				w := all[i]
				w.end()
				w.hangUp()
				all = append(all[:i], all[i+1:]...)
			case r.IntN(2) == 0 && all[i].hungUp.IsZero():
				all[i].hungUp = time.Now()
				all[i].hangUp()
			case all[i].follower != nil:
				all[i].f.leave(all[i].follower)
				all[i].follower = nil
				if r.IntN(2) == 0 && all[i].hungUp.IsZero() { // at once
					all[i].hungUp = time.Now()
					all[i].hangUp()
				}
			}
			time.Sleep(time.Duration(r.IntN(int(watchEvery / 2))))
			synctest.Wait()
			for _, w := range all {
				isAlone := !w.hungUp.IsZero() && w.follower == nil
				if ended := w.own.Err() != nil; ended && !isAlone || !ended && isAlone && time.Since(w.hungUp) > soon {
					t.Fatalf("begun %v ago, its client gone for %v, followed %v: ended %v",
						time.Since(w.began), time.Since(w.hungUp), w.follower != nil, ended)
				}
			}
			fs.mu.Lock()
			for f := fs.watched; f != nil; f = f.next {
				for _, w := range all {
					if w.f == f && time.Since(w.began) > soon {
						t.Fatalf("one that began %v ago is still looked at", time.Since(w.began))
					}
				}
			}
			fs.mu.Unlock()
		}
		for _, w := range all {
			w.end()
			w.hangUp()
		}
		time.Sleep(soon)
		fs.mu.Lock()
		defer fs.mu.Unlock()
		if fs.watched != nil || fs.watching {
			t.Errorf("when all is over, there is something to look at: %v, %v", fs.watched, fs.watching)
		}
	})
}
