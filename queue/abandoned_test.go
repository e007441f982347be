package queue

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// What is for a destination that the options do not have is counted, and nobody else
// gets it. After a day it becomes dead letters, which are delivered if the
// destination is back.
func TestAbandonedDestination(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, configured func(Options) *Client) {
		before := configured(Options{Destinations: []string{"mail", "crm"}})
		ms, bodies := kindsOf("")
		receipts, err := before.EnqueueBatch(t.Context(), ms)
		if err != nil {
			t.Fatal(err)
		}
		after := configured(Options{Destinations: []string{"mail"}})
		seen, mail := &watcher{}, newDiary()
		var buried atomic.Int64
		bury := func(_ context.Context, d *Delivery, r Result) error {
			if d.Destination != "crm" || r.Reason != noBlock("crm") {
				t.Errorf("buried %q of %q", r.Reason, d.Destination)
			}
			buried.Add(1)
			return nil
		}
		run(t, after, WorkerOptions{Destination: "mail", Observe: seen, Bury: bury}, mail.done)
		eventually(t, 60*time.Second, "the mail is delivered", func() bool { return mail.distinct() == len(bodies) })
		eventually(t, 60*time.Second, "the rest is counted, and told", func() bool {
			n := sum(after.Counts(t.Context()))
			return n.Err == nil && n.Ready == int64(len(bodies)) && n.Abandoned["crm"] > 0 && len(seen.tellings()) > 0
		})
		// More of them are abandoned than the look can have seen, were none told twice.
		ageLanes(t, after, 25*time.Hour)
		eventually(t, 120*time.Second, "all are dead letters", func() bool {
			return sum(after.Counts(t.Context())).Dead == int64(len(bodies)) && buried.Load() == int64(len(bodies))
		})
		letters, _, err := after.Dead(t.Context(), 1000, "")
		if err != nil || len(letters) != len(bodies) {
			t.Errorf("%d letters, %v", len(letters), err)
		}
		for _, l := range letters {
			if l.Destination != "crm" || l.Reason != noBlock("crm") {
				t.Errorf("a letter of %q because of %q", l.Destination, l.Reason)
			}
		}
		if told := seen.tellings(); len(told) > len(after.partitions) {
			t.Errorf("told %d times: %q", len(told), told)
		}
		if found, err := after.Find(t.Context(), receipts[0].ID); err != nil || len(found) != 1 || found[0].State != stateDead {
			t.Errorf("found %+v %v", found, err)
		}
		// By their names, where the destination is not known; and all.
		if n, err := after.Replay(t.Context(), []string{receipts[0].ID, receipts[1].ID}, nil); n != 2 || err != nil {
			t.Errorf("replayed %d, %v", n, err)
		}
		if n, err := after.Replay(t.Context(), nil, nil); n != len(bodies)-2 || err != nil {
			t.Errorf("replayed %d, %v", n, err)
		}
		crm := newDiary()
		_, drain := run(t, before, WorkerOptions{Destination: "crm"}, crm.done)
		eventually(t, 60*time.Second, "what is for the other one is delivered", func() bool { return crm.distinct() == len(bodies) })
		if mail.total() != len(bodies) || crm.total() != len(bodies) {
			t.Errorf("%d and %d were delivered, want %d each", mail.total(), crm.total(), len(bodies))
		}
		eventually(t, 60*time.Second, "nothing is counted", func() bool {
			n := sum(after.Counts(t.Context()))
			return n.Err == nil && n.Ready+n.InFlight+n.Delayed+n.Dead == 0
		})
		drain()
		wantLanesNoted(t, after)
	})
}

// Who has a destination says so, and its messages are no dead letters, however long
// another process has not known it.
func TestLaneThatIsHadIsNotAbandoned(t *testing.T) {
	t.Parallel()
	r := newPatientRig(t, 10*time.Second, 1, Options{Destinations: []string{"mail", "crm"}})
	p := r.c.partitions[0]
	r.enqueue(&Message{})
	r.o.Destinations = []string{"mail"}
	other := r.client()
	since := func() string { return r.raw().HGet(t.Context(), p.keys.lanes(), "crm/").Val() }
	if other.Counts(t.Context()); since() == "0" {
		t.Fatal("who does not know the destination does not say since when")
	}
	ageLanes(t, r.c, 25*time.Hour)
	if r.c.Counts(t.Context()); since() != "0" {
		t.Errorf("who has it leaves it abandoned since %s", since())
	}
}

// What is abandoned is counted, but its age holds nothing up: nobody is to deliver it.
// That of a class that is gone does.
func TestAbandonedLaneMakesNothingTooOld(t *testing.T) {
	t.Parallel()
	r := newPatientRig(t, 10*time.Second, 2, Options{Destinations: []string{"mail"}, Backlog: Backlog{Messages: 1000, Age: time.Hour}})
	old := func(lane string) {
		for i, p := range r.c.partitions {
			p.client().XAdd(t.Context(), &redis.XAddArgs{Stream: p.keys.stream(lane), Values: []string{"i", fmt.Sprint(lane, i), "t", "1"}})
			p.client().HSet(t.Context(), p.keys.lanes(), lane, "0")
		}
		r.c.Counts(t.Context())
	}
	put := func(n int) (err error) {
		for range n {
			if _, e := r.c.Enqueue(t.Context(), &Message{}); e != nil {
				err = e
			}
			if _, e := r.c.EnqueueBatch(t.Context(), []*Message{{}, {Track: true}}); e != nil {
				err = e
			}
		}
		return err
	}
	old("crm/")
	old("a/")
	if err := put(10); err != nil {
		t.Errorf("with old messages of nobody: %v", err)
	}
	if n := sum(r.c.Counts(t.Context())); n.Ready != 34 || n.Oldest < time.Hour {
		t.Errorf("counted %+v, want 34, and how old the oldest is", n)
	}
	old("mail/old")
	if err := put(10); !errors.Is(err, ErrBacklog) {
		t.Errorf("with old messages of a class that is gone: %v, want %v", err, ErrBacklog)
	}
}

// Who comes back, or to a node that was away, has time to say that it has a destination.
func TestAbandonedIsNotDeadAtFirstSight(t *testing.T) {
	t.Parallel()
	var s stray
	begin := time.Now()
	see := func(after, since time.Duration, abandoned bool) {
		s.see([]strayLane{{name: "crm/", abandoned: abandoned, since: since}}, begin.Add(after))
	}
	want := func(after time.Duration, dead bool) {
		t.Helper()
		if got := s.all()[0].isDead(begin.Add(after)); got != dead {
			t.Errorf("after %v it is dead: %v, want %v", after, got, dead)
		}
	}
	see(0, buryAfter, true)
	want(0, false)
	see(sayFor-1, 2*buryAfter, true)
	want(sayFor-1, false)
	want(sayFor, true)
	see(sayFor, 0, true) // somebody has it, and is away again
	want(10*sayFor, false)
	see(sayFor, buryAfter, true)
	want(sayFor, false)
	want(2*sayFor, true)
	s.renew("crm/")
	want(2*sayFor, false)
	see(3*sayFor, 0, false) // a class that is gone
	want(10*sayFor, false)
}
