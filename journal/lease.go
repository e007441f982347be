package journal

import "time"

// Lease (Δ) is how long a proof that a journal was read to its head is
// believed. An acknowledged invalidation is served by nobody after it.
const Lease = time.Second

// until is an instant by two clocks. The monotonic one stands still while the
// machine is suspended, the wall clock may be set back; an instant has passed
// when either says so.
type until struct {
	at   time.Time
	wall int64 // Unix ns
}

func newUntil(from time.Time, d time.Duration) *until {
	at := from.Add(d)
	return &until{at: at, wall: at.UnixNano()}
}

func (u *until) passed(now time.Time) bool {
	return u == nil || !now.Before(u.at) || now.UnixNano() >= u.wall
}

// Leased reports whether the near cache may be believed at now: every node
// that is up was proven within Lease, every node was tried since the start,
// and at least one is up; with Options.Strict, more than half of all are. Without any node there is nobody who could have been
// told of an invalidation, and it is always so. With all nodes away it is so
// for the time given as Options.MaxBlind, unless it is strict.
func (b *Book) Leased(now time.Time) bool {
	l := b.lease.Load()
	return l.forever || !l.until.passed(now) || !b.has(ruleLease)
}

// lease is what Leased answers from: immutable, replaced as a whole.
type lease struct {
	forever bool
	until   *until
}

// renewLocked computes the lease anew after a view's state or proof changed.
func (b *Book) renewLocked() {
	var up int
	var oldest time.Time
	for _, v := range b.views {
		if v.state == Unknown && b.has(ruleUnknown) {
			b.lease.Store(&lease{})
			return
		}
		if v.lastProven.After(b.lastProven) {
			b.lastProven = v.lastProven
		}
		if v.state != Up {
			continue
		}
		if up == 0 || v.lastProven.Before(oldest) {
			oldest = v.lastProven
		}
		up++
	}
	switch {
	case len(b.views) == 0:
		b.lease.Store(&lease{forever: true})
	case b.opts.Strict && up <= len(b.views)/2 && b.has(ruleQuorum):
		// What was acknowledged is on more than half of the nodes, so whoever has
		// read more than half has read of it. Others do not know what they miss.
		b.lease.Store(&lease{})
	case up > 0:
		b.lease.Store(&lease{until: newUntil(oldest, Lease)})
	case b.opts.MaxBlind < 0 || !b.has(ruleBlind):
		b.lease.Store(&lease{forever: true})
	case b.lastProven.IsZero():
		b.lease.Store(&lease{until: newUntil(b.started, b.opts.MaxBlind)})
	default:
		b.lease.Store(&lease{until: newUntil(b.lastProven, max(Lease, b.opts.MaxBlind))})
	}
}
