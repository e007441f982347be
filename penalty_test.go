package fluster

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-fluster/caddy-fluster/shard"
)

// TestPenaltyDurations: each further time out of use is longer, by the
// multiplier, and never above the longest; up to a quarter is added at random.
func TestPenaltyDurations(t *testing.T) {
	tests := []struct {
		name    string
		penalty Penalty
		level   int
		least   time.Duration
	}{
		{"default, first", Penalty{}, 0, time.Second},
		{"default, second", Penalty{}, 1, 1500 * time.Millisecond},
		{"default, third", Penalty{}, 2, 2250 * time.Millisecond},
		{"default, far", Penalty{}, 100, time.Minute},
		{"doubled", Penalty{First: seconds(1), Longest: seconds(10), Multiplier: 2}, 3, 8 * time.Second},
		{"at the longest", Penalty{First: seconds(1), Longest: seconds(10), Multiplier: 2}, 4, 10 * time.Second},
		{"no growth", Penalty{First: seconds(1), Longest: seconds(10), Multiplier: 1}, 1000, time.Second},
		{"first is longest", Penalty{First: seconds(5), Longest: seconds(5), Multiplier: 3}, 7, 5 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := tt.penalty.withDefaults()
			most := min(tt.least+tt.least/4, time.Duration(p.Longest))
			lowest, highest := time.Duration(1<<62), time.Duration(0)
			for range 2000 {
				d := p.duration(tt.level)
				lowest, highest = min(lowest, d), max(highest, d)
			}
			if lowest < tt.least || highest > most {
				t.Errorf("duration(%d) of %+v is from %s to %s, want from %s to %s", tt.level, p, lowest, highest, tt.least, most)
			}
			if most > tt.least && highest-lowest < (most-tt.least)/2 {
				t.Errorf("duration(%d) of %+v is from %s to %s: there is no jitter", tt.level, p, lowest, highest)
			}
		})
	}
}

func seconds(n int) caddy.Duration { return caddy.Duration(time.Duration(n) * time.Second) }

// TestPenaltyDefaults: a longest that was not given is never below the first.
func TestPenaltyDefaults(t *testing.T) {
	tests := []struct {
		name       string
		in         *Penalty
		want       Penalty
		wantsError bool
	}{
		{"nil", nil, Penalty{seconds(1), seconds(60), 1.5}, false},
		{"first alone", &Penalty{First: seconds(5)}, Penalty{seconds(5), seconds(60), 1.5}, false},
		{"first above the default longest", &Penalty{First: seconds(90)}, Penalty{seconds(90), seconds(90), 1.5}, false},
		{"longest below first", &Penalty{First: seconds(9), Longest: seconds(3)}, Penalty{seconds(9), seconds(3), 1.5}, true},
		{"longest below the default first", &Penalty{Longest: caddy.Duration(time.Millisecond)}, Penalty{seconds(1), caddy.Duration(time.Millisecond), 1.5}, true},
		{"negative", &Penalty{First: seconds(-1)}, Penalty{seconds(-1), seconds(60), 1.5}, true},
		{"shrinking", &Penalty{Multiplier: 0.9}, Penalty{seconds(1), seconds(60), 0.9}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := tt.in.withDefaults()
			if got != tt.want {
				t.Errorf("withDefaults of %+v: got %+v, want %+v", tt.in, got, tt.want)
			}
			if err := got.Validate(); (err != nil) != tt.wantsError {
				t.Errorf("Validate of %+v: got %v, want an error: %t", got, err, tt.wantsError)
			}
		})
	}
}

// boxOfOne is a penalty box with one node, which is in use. Its penalties are
// of 10, 20, 40 and at most 60 seconds, plus jitter.
func boxOfOne(t *testing.T) (*penaltyBox, *shard.Node, *seat) {
	t.Helper()
	n := new(shard.Node) // only its identity counts here
	b := newPenaltyBox()
	b.setConfig(Penalty{First: seconds(10), Longest: seconds(60), Multiplier: 2})
	if b.Available(n) {
		t.Error("a node that the box does not know is available")
	}
	s := b.admit(n)
	if b.Available(n) {
		t.Error("a node is available before it was found well")
	}
	s.release(time.Now())
	if !b.Available(n) {
		t.Fatal("a node that was released is not available")
	}
	return b, n, s
}

// TestPenaltyReports: one refusal takes a node out of use, time-outs do so when
// slowInARow of them come in a row, and what is nobody's fault counts for nobody.
func TestPenaltyReports(t *testing.T) {
	const ok, nobody, slow, refused = shard.OK, shard.Nobody, shard.Slow, shard.Refused
	tests := []struct {
		name     string
		outcomes []shard.Outcome
		want     bool // still available
	}{
		{"well", []shard.Outcome{ok, ok}, true},
		{"refused once", []shard.Outcome{ok, refused}, false},
		{"slow once", []shard.Outcome{slow}, true},
		{"slow twice", []shard.Outcome{slow, slow}, true},
		{"slow three times", []shard.Outcome{slow, slow, slow}, false},
		{"slow, but not in a row", []shard.Outcome{slow, slow, ok, slow, slow, ok, slow}, true},
		{"nobody's fault", []shard.Outcome{nobody, nobody, nobody, nobody, nobody}, true},
		{"nobody's fault is no answer either", []shard.Outcome{slow, nobody, slow, nobody, slow}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b, n, s := boxOfOne(t)
			for _, o := range tt.outcomes {
				b.Report(n, o, errors.New(o.String()))
			}
			if got := b.Available(n); got != tt.want {
				t.Errorf("after %v the node is available: got %t, want %t", tt.outcomes, got, tt.want)
			}
			select {
			case <-s.leave:
				if tt.want {
					t.Error("the keeper was woken for a node that is in use")
				}
			default:
				if !tt.want {
					t.Error("the keeper was not woken")
				}
			}
		})
	}
}

// TestPenaltyIsTheKeepersToEnd: while a node sits out, good news of late
// commands do not bring it back, and time-outs of its last use do not count
// after its return.
func TestPenaltyIsTheKeepersToEnd(t *testing.T) {
	b, n, s := boxOfOne(t)
	for range slowInARow - 1 {
		b.Report(n, shard.Slow, errors.New("slow"))
	}
	b.Report(n, shard.Refused, errors.New("refused"))
	b.Report(n, shard.OK, nil)
	if b.Available(n) {
		t.Fatal("a late answer brought the node back")
	}
	b.penalize(s, errors.New("refused"), time.Now())
	s.release(time.Now())
	b.Report(n, shard.Slow, errors.New("slow"))
	if !b.Available(n) {
		t.Error("one time-out after the return took the node out of use")
	}
	b.dismiss(n)
	b.Report(n, shard.Refused, errors.New("refused"))
	if b.Available(n) {
		t.Error("a node that was dismissed is available")
	}
}

// TestPenaltyOverTime: a node that fails again soon after its return sits out
// longer; one that was well for longer than it last sat out begins anew.
func TestPenaltyOverTime(t *testing.T) {
	type step struct {
		wait  time.Duration
		do    string // fail, or return
		least time.Duration
	}
	tests := []struct {
		name  string
		steps []step
	}{
		{"fails on and on", []step{
			{0, "fail", 10 * time.Second}, {0, "fail", 20 * time.Second}, {0, "fail", 40 * time.Second},
			{0, "fail", 60 * time.Second}, {0, "fail", 60 * time.Second},
		}},
		{"returns and fails soon", []step{
			{time.Hour, "fail", 10 * time.Second}, {15 * time.Second, "return", 0},
			{time.Second, "fail", 20 * time.Second}, {25 * time.Second, "return", 0},
			{time.Second, "fail", 40 * time.Second},
		}},
		{"is well for a good while", []step{
			{time.Hour, "fail", 10 * time.Second}, {0, "fail", 20 * time.Second}, {0, "fail", 40 * time.Second},
			{50 * time.Second, "return", 0}, {51 * time.Second, "fail", 10 * time.Second},
		}},
		{"is never well", []step{
			{time.Hour, "fail", 10 * time.Second}, {time.Hour, "fail", 20 * time.Second}, {time.Hour, "fail", 40 * time.Second},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, n, s := boxOfOne(t)
				for i, st := range tt.steps {
					time.Sleep(st.wait)
					if st.do == "return" {
						s.release(time.Now())
						continue
					}
					got := b.penalize(s, errors.New("refused"), time.Now())
					most := min(st.least+st.least/4, time.Minute)
					if got < st.least || got > most {
						t.Errorf("step %d: sits out for %s, want from %s to %s", i, got, st.least, most)
					}
					if _, _, retryAt := s.status(); !retryAt.Equal(time.Now().Add(got)) {
						t.Errorf("step %d: is tried again at %s, want %s later than %s", i, retryAt, got, time.Now())
					}
					if b.Available(n) {
						t.Errorf("step %d: a node that sits out is available", i)
					}
				}
			})
		})
	}
}

// TestPenaltyTellsHowLong: release says how long the node was out, over all
// penalties in a row.
func TestPenaltyTellsHowLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _, s := boxOfOne(t)
		time.Sleep(time.Hour)
		b.penalize(s, errors.New("refused"), time.Now())
		time.Sleep(10 * time.Second)
		b.penalize(s, errors.New("refused"), time.Now())
		time.Sleep(20 * time.Second)
		if got, want := s.release(time.Now()), 30*time.Second; got != want {
			t.Errorf("release: got %s, want %s", got, want)
		}
		if _, _, retryAt := s.status(); !retryAt.IsZero() {
			t.Errorf("a node in use is tried again at %s", retryAt)
		}
	})
}

// TestExpelledWhileItReturns: a keeper is not told of an expulsion from before the
// return of its node, for which it would take that out of use again.
func TestExpelledWhileItReturns(t *testing.T) {
	for range 20_000 {
		s := &seat{leave: make(chan struct{}, 1)}
		s.available.Store(true)
		var wg sync.WaitGroup
		wg.Go(func() { s.expel(errBlind) })
		wg.Go(func() { s.release(time.Now()) })
		wg.Wait()
		if in := s.available.Load(); in == (len(s.leave) == 1) {
			t.Fatalf("the node is in use: %t, and its keeper is told of %d expulsions", in, len(s.leave))
		}
	}
}
