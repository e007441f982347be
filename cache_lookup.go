package fluster

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/caddy-fluster/caddy-fluster/httpcache"
	"github.com/caddy-fluster/caddy-fluster/journal"
	"github.com/caddy-fluster/caddy-fluster/shard"
	"github.com/caddy-fluster/caddy-fluster/stored"
)

// lookupNode looks on the key's node, within the exchange's patience, and returns
// the response that the request selects and the list of variants, if it read
// that. All trouble is a miss. After a fast failure one further node is asked.
// known, if not empty, is the key of the variant that is selected.
func (x *exchange) lookupNode(known string) (e, list *entry) {
	p := x.pool
	sn, err := p.ring.Pick(x.key)
	if err != nil {
		x.seen = true // what lies on nodes that come back is validated
		return nil, nil
	}
	start := time.Now()
	deadline := start.Add(x.patience)
	defer func() { x.patience -= time.Since(start) }()
	x.node = p.byShard[sn]
	ctx := x.r.Context()
	if x.patience < time.Duration(p.config.Timeout) {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline)
		defer cancel()
	}
	// Else the first read has its node's time-out, which is the same, and thus a node
	// that does not answer is to blame for that.
	e, list, err = x.lookupOn(ctx, deadline, known)
	x.nodeFailed = err != nil
	if err == nil || !time.Now().Before(deadline) {
		return e, list
	}
	first := x.node
	if sn, err = p.ring.PickNext(x.key, sn); err != nil {
		return nil, nil
	}
	x.node = p.byShard[sn]
	ctx, cancel := context.WithDeadline(x.r.Context(), deadline)
	defer cancel()
	e, list, err = x.lookupOn(ctx, deadline, known)
	x.nodeFailed = err != nil
	x.seen = x.seen && !first.inUse()
	return e, list
}

// lookupOn looks on x.node. The first read ends with ctx, and within the node's
// time-out; the deadline is for what has to be read beside it.
func (x *exchange) lookupOn(ctx context.Context, deadline time.Time, known string) (e, list *entry, err error) {
	key := x.key
	if known != "" {
		key = known
	}
	e, err = x.read(ctx, deadline, key)
	if err != nil || e == nil || e.variants == nil {
		return e, nil, err
	}
	list = e
	v, language := list.selectVariant(x.r.Header, x.now.UnixMilli())
	if v == nil {
		return nil, list, nil
	}
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	e, err = x.read(ctx, deadline, v.Key)
	if e != nil && (e.resp == nil || !e.isIn(language)) {
		e = nil // a list under a variant's key: not ours; or it was stored anew in another language
	}
	return e, list, err
}

// read reads what lies under one key together with the head of the journal, in
// one round trip, and judges it. What is dead, foreign or torn is a miss. The
// deadline is for what else has to be read.
func (x *exchange) read(ctx context.Context, deadline time.Time, key string) (*entry, error) {
	n, b := x.node, x.node.journal.bucket
	x.seen = false
	sent, learn, came := time.Now(), x.pool.book.Learnt(), x.pool.asks.Add(1)
	value, headValue, err := n.Borrow(ctx, b.entry(key), n.headKey)
	if err != nil {
		return nil, err
	}
	head, ok := journal.ParseHead(string(headValue))
	switch n.view.Observe(head, ok, sent) {
	case journal.Behind:
		if err := x.readJournal(deadline); err != nil {
			return nil, err
		}
	case journal.Forked:
		n.ask()
		return nil, nil
	}
	if value.Bytes != nil && !x.pool.book.Leased(time.Now()) {
		return nil, nil // an invalidation may be known to another node alone
	}
	x.seen = true
	if value.Bytes == nil {
		return nil, nil
	}
	resp, variants, err := x.decode(&value)
	switch {
	case errors.Is(err, stored.ErrVersion):
		metrics.garbage.WithLabelValues("version").Inc()
		return nil, nil
	case err != nil:
		metrics.garbage.WithLabelValues("format").Inc()
		n.writes.push(write{forget: []string{b.entry(key)}})
		return nil, nil
	case variants != nil && variants.Key == key:
		return newList(variants), nil
	case resp == nil || resp.Key != key:
		// Not ours, or a collision of hashes: of no use to this key either way.
		metrics.garbage.WithLabelValues("key").Inc()
		n.writes.push(write{forget: []string{b.entry(key)}})
		return nil, nil
	}
	e := newEntry(resp, learn)
	e.came = came
	e.born = 0 // it is judged by the URL that is asked for, and may be dead by others
	if value.Loan != nil {
		x.lentTo, x.loan = e, value.Loan
	}
	return x.admit(e), nil
}

// decode decodes a value. What others may come to have then is in memory of its own.
func (x *exchange) decode(v *shard.Value) (*stored.Response, *stored.Variants, error) {
	if x.pool.near.Load() == nil && v.Loan != nil {
		// Header values outlive the request, in logs and in what net/http has yet to write.
		resp, _, err := stored.DecodeApart(v.Bytes)
		if err != nil || resp != nil && resp.Chunks == nil {
			return resp, nil, err
		}
	}
	*v = shard.Value{Bytes: v.Own()}
	return stored.Decode(v.Bytes)
}

// readJournal reads what the journal has and this process lacks. The client does
// not wait for longer than the deadline, whatever the connection does.
func (x *exchange) readJournal(deadline time.Time) error {
	ctx, cancel := context.WithDeadline(x.r.Context(), deadline)
	defer cancel()
	n, done := x.node, make(chan error, 1)
	if !x.pool.goLater(func(context.Context) { done <- n.readToHead(ctx, 2) }) {
		return context.Canceled
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// admit asks the journal about a response that was read; nil if it is dead, for
// other queries, or not to be shown.
func (x *exchange) admit(e *entry) *entry {
	if !x.isSearchedBy(e) || !x.mayShow(e) {
		return nil
	}
	stamp := journal.Stamp(e.resp.Stamp)
	switch x.node.view.ValidNode(stamp, x.selectors(e)) {
	case journal.Dead:
		return nil
	case journal.Stale:
		e.soft = true
	case journal.Doubted:
		e.doubted = true
	}
	e.doubted = e.doubted || x.node.seat.isDoubtful() || x.pool.doubts(x.key, x.node, stamp) ||
		x.isOlder(e)
	if e.resp.Chunks != nil {
		e.node = x.node
	}
	return e
}

// mayShow reports whether a stored response has no field that this cache would not
// have stored: a cookie, or tags, by which it could not be invalidated. It was stored
// by other options, before a reload, or has another cache of the same pool.
func (x *exchange) mayShow(e *entry) bool {
	if x.number != 0 && e.shown.Load() == x.number {
		return true
	}
	for _, l := range e.lines() {
		if slices.Contains(x.tags, l.name) || x.policy.SetCookie != httpcache.StoreCookie && strings.HasPrefix(l.name, "Set-Cookie") {
			return false
		}
	}
	e.shown.Store(x.number)
	return true
}

// hold takes n bytes of what all bodies under way may take, until the request
// is answered; false if there is no room.
func (x *exchange) hold(n int64) bool {
	all := &x.pool.flights.recorded
	if all.Add(n) > maxRecorded {
		all.Add(-n)
		return false
	}
	x.held += n
	return true
}
