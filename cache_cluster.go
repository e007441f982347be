package fluster

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-fluster/caddy-fluster/httpcache"
)

// lead forwards for all in this process who want the same and, with `collapse
// cluster`, for those in other processes. Whoever comes to lead a moment after
// another forward has ended finds what that has stored.
func (x *exchange) lead(fl *flight, f *found, use httpcache.Reuse) error {
	defer fl.settle(broken) // where a panic has come between: nobody waits for ever
	if f != nil {
		f = new(*f) // looking again uses its place
	}
	why := x.why
	x.now = time.Now() // it may have waited for another's forward until now
	if g, _ := x.lookupNear(); g != nil && (f == nil || g.entry != f.entry) && x.isFresh(g) {
		return x.leadTo(fl, g, x.serve)
	}
	x.why = why
	if x.Collapse != "cluster" || x.ahead { // who holds the lock, if any, is too old for it
		return x.fetch(fl, f, use)
	}
	g, err := x.awaitOthers()
	switch {
	case err != nil:
		fl.abandon()
		fl.end()
		return err
	case g != nil:
		x.collapsed(g.entry)
		return x.leadTo(fl, g, x.write)
	}
	// Unless the store lets go of it, when the response lies there.
	defer func() { x.place.lock.letGoUnlessHanded() }()
	return x.fetch(fl, f, use)
}

// leadTo answers by serve with what was stored meanwhile, and so all who follow.
func (x *exchange) leadTo(fl *flight, g *found, serve func(*found) error) error {
	g.entry = x.shareStored(fl, g.entry)
	defer fl.end()
	return serve(g)
}

// shareStored lets all who follow have what is stored, and returns it. A body in
// chunks is read once for those who wait for it: if each did so, they would take so
// much of the bound of all bodies that most of them would be forwarded.
func (x *exchange) shareStored(fl *flight, e *entry) *entry {
	if e.resp.Chunks != nil && fl.isAwaited() {
		if loaded, ok := x.load(e, awaitedBody); ok {
			e = loaded
		}
	}
	fl.offer(e.resp.Body)
	fl.share(e, e.resp.BodySize)
	fl.settle(whole)
	return e
}

// isFresh reports whether what was found answers the request without a forward.
func (x *exchange) isFresh(g *found) bool {
	return x.judge(g).Use == httpcache.UseFresh && g.resp.Status != 206 && x.open(g)
}

// Waiting for other processes is in steps, between which a waiter that has heard
// nothing looks at the lock.
const (
	firstStep   = 20 * time.Millisecond
	longestStep = 500 * time.Millisecond
)

// awaitOthers takes the lock on the forward of this request, or waits for the
// process that has it, and returns what that has stored. Neither of both: the
// request is to be forwarded, with the lock in place if it could be taken.
//
// What the other has stored was maybe asked for before this request came; the
// lookup says whether it was invalidated since, as it does with any response.
func (x *exchange) awaitOthers() (*found, error) {
	n := x.node
	if n == nil || !n.inUse() {
		n = x.pool.pick(x.key)
	}
	if n == nil || !n.inUse() || x.nodeFailed {
		return nil, nil // slow or away: no lock
	}
	ctx := x.r.Context()
	key := n.journal.bucket.lock(x.flightKey())
	news, end := x.pool.waits.add(key)
	defer end()
	for step := firstStep; n.inUse(); step = min(2*step, longestStep) {
		l, state := x.takeLock(n, key)
		if state == lockTaken {
			// Whoever had it until now may have stored what we look for.
			if g := x.lookAgain(); g != nil {
				l.letGo(wasStored)
				return g, nil
			}
			x.place.lock = l
			return nil, nil
		}
		o := isUnheard
		switch state {
		case markedAlone:
			o = isAlone
		case heldByAnother:
			if o = hearWithin(ctx, news, step/2+rand.N(step/2)); ctx.Err() != nil {
				return nil, caddyhttp.Error(statusClientClosed, ctx.Err())
			}
		case noLock:
			return nil, nil
		}
		switch o {
		case isAlone:
			x.markAlone(time.Now().Add(aloneFor), everybody) // of whom it was is not told
			x.marked = true
			return nil, nil
		case wasStored:
			return x.lookAgain(), nil
		case isLost:
			return nil, nil
		}
	}
	return nil, nil
}

// takeLock is the node's, for as long as nodes may yet cost the request time. What
// others keep it waiting is not held against the node.
func (x *exchange) takeLock(n *node, key string) (*lock, lockState) {
	if x.patience <= 0 {
		return nil, noLock
	}
	ctx, cancel := context.WithTimeout(x.r.Context(), x.patience)
	defer cancel()
	start := time.Now()
	l, state := n.takeLock(ctx, key)
	if state != heldByAnother {
		x.patience -= time.Since(start)
	}
	return l, state
}

// hearWithin waits for news for d.
func hearWithin(ctx context.Context, news chan outcome, d time.Duration) outcome {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case o := <-news:
		return o
	case <-t.C:
	case <-ctx.Done():
	}
	return isUnheard
}

// lookAgain looks for what another process may have stored while this one waited.
func (x *exchange) lookAgain() *found {
	why := x.why
	x.now = time.Now()
	g := x.lookup()
	if g != nil && x.isFresh(g) {
		x.why = why
		return g
	}
	x.why = why
	return nil
}
