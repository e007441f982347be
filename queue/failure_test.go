package queue

import (
	"context"
	"errors"
	"maps"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

// within fails the test if do takes longer.
func within(t *testing.T, most time.Duration, what string, do func()) {
	t.Helper()
	began := time.Now()
	do()
	if took := time.Since(began); took > most {
		t.Errorf("%s took %v, want at most %v", what, took, most)
	}
}

// enqueueMany puts n messages in from several callers, and returns the ids that
// were accepted and how many were not. Each must be told within a second.
func (r *rig) enqueueMany(n int, make func(i int) *Message) (ids map[string]bool, refused int) {
	r.t.Helper()
	ids = map[string]bool{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for caller := range 8 {
		wg.Go(func() {
			for i := caller; i < n; i += 8 {
				began := time.Now()
				receipt, err := r.c.Enqueue(context.Background(), make(i))
				if took := time.Since(began); took > 1200*time.Millisecond {
					r.t.Errorf("it took %v to say %v", took, err)
				}
				mu.Lock()
				if err == nil {
					ids[receipt.ID] = true
				} else if refused++; !errors.Is(err, ErrNoNode) && !(r.c.asksMore() && errors.Is(err, ErrDurability)) {
					r.t.Errorf("refused with %v, want %v", err, ErrNoNode)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return ids, refused
}

// expectDelivered runs a worker until all ids were delivered, and fails the test
// if anything else was.
func (r *rig) expectDelivered(ids map[string]bool, may map[string]bool) {
	r.t.Helper()
	var mu sync.Mutex
	got := map[string]bool{}
	_, drain := run(r.t, r.c, WorkerOptions{Concurrency: 64}, func(_ context.Context, d *Delivery) Result {
		mu.Lock()
		defer mu.Unlock()
		got[d.ID] = true
		return Result{Outcome: Done}
	})
	missing := func() (out []string) {
		mu.Lock()
		defer mu.Unlock()
		for id := range ids {
			if !got[id] {
				out = append(out, id)
			}
		}
		return out
	}
	for end := time.Now().Add(20 * time.Second); len(missing()) > 0 && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	eventually(r.t, 10*time.Second, "the queue is empty", r.empty)
	drain()
	if m := missing(); len(m) > 0 {
		r.t.Errorf("%d were accepted and not delivered: %v", len(m), m[0])
	}
	for id := range got {
		if !ids[id] && (may == nil || !may[id]) {
			r.t.Errorf("%s was not accepted, and delivered", id)
		}
	}
}

func plainOrNot(i int) *Message {
	m := &Message{Body: []byte(strconv.Itoa(i))}
	if i%2 == 0 {
		m.Expire = time.Hour
	}
	return m
}

func TestEnqueueWhileANodeDies(t *testing.T) {
	faults := map[string]func(s *redistest.Server){
		"killed":  (*redistest.Server).Kill,
		"stopped": (*redistest.Server).Pause,
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 3, Options{})
			r.enqueueMany(50, plainOrNot) // all connected
			var wg sync.WaitGroup
			var ids map[string]bool
			var refused int
			wg.Go(func() { ids, refused = r.enqueueMany(4000, plainOrNot) })
			time.Sleep(30 * time.Millisecond)
			fault(r.servers[1])
			wg.Wait()
			if refused > 0 || len(ids) != 4000 {
				t.Errorf("%d refused, %d accepted, want all accepted", refused, len(ids))
			}
			// Now and then one caller tries whether the node is back.
			late := 0
			for i := range 400 {
				began := time.Now()
				r.enqueue(plainOrNot(i))
				if time.Since(began) > 250*time.Millisecond {
					late++
				}
			}
			if late > 4 {
				t.Errorf("%d of 400 waited for a node that is known to be away", late)
			}
		})
	}
}

func TestEnqueueWhenAllNodesAreAway(t *testing.T) {
	for name, fault := range map[string]func(s *redistest.Server){"killed": (*redistest.Server).Kill, "stopped": (*redistest.Server).Pause} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 2, Options{})
			r.enqueueMany(20, plainOrNot)
			for _, s := range r.servers {
				fault(s)
			}
			for range 4 {
				if ids, refused := r.enqueueMany(16, plainOrNot); len(ids) != 0 || refused != 16 {
					t.Errorf("%d accepted, %d refused, want none accepted", len(ids), refused)
				}
				time.Sleep(300 * time.Millisecond)
			}
			for _, s := range r.servers {
				if name == "killed" {
					s.Restart()
				} else {
					s.Resume()
				}
			}
			eventually(t, 3*time.Second, "messages are taken again", func() bool {
				_, err := r.c.Enqueue(t.Context(), &Message{})
				return err == nil
			})
		})
	}
}

func TestEnqueueWithoutAnAnswerGoesElsewhereUnderTheSameID(t *testing.T) {
	r := newRig(t, 2, Options{})
	r.enqueueMany(20, plainOrNot)
	r.servers[0].Pause()
	ids, refused := r.enqueueMany(64, plainOrNot)
	if refused > 0 {
		t.Fatalf("%d refused", refused)
	}
	r.servers[0].Resume()
	time.Sleep(50 * time.Millisecond) // it does now what it was told
	times := map[string]int{}
	for _, e := range r.entries("") {
		times[e.id]++
	}
	twice := 0
	for id := range ids {
		if times[id] == 0 {
			t.Errorf("%s is nowhere", id)
		}
		if times[id] > 1 {
			twice++
		}
	}
	if twice == 0 {
		t.Error("none is on both, so that nothing was shown")
	}
	if n := len(times); n != len(ids)+20 {
		t.Errorf("%d ids are there, want %d: one under two names?", n, len(ids)+20)
	}
}

func TestEnqueueTellsThatItFailedOver(t *testing.T) {
	r := newRig(t, 2, Options{})
	r.servers[0].Kill()
	over := 0
	for range 50 {
		receipt := r.enqueue(&Message{})[0]
		if receipt.Node != "n1" {
			t.Fatalf("node %s took it", receipt.Node)
		}
		if receipt.FailedOver != "" {
			over++
		}
		if name := receipt.FailedOver; name != "" && name != "n0" {
			t.Errorf("it failed over from %q", name)
		}
	}
	if over == 0 || over > 25 {
		t.Errorf("%d of 50 failed over, want the first, and not one after the node is known to be away", over)
	}
}

// TestFailedOverFromTheFirst: a message that came back to the node that was tried
// first has not failed over.
func TestFailedOverFromTheFirst(t *testing.T) {
	r := newRig(t, 3, Options{})
	p := r.c.partitions
	for _, c := range []struct {
		tried []*partition
		want  string
	}{
		{nil, ""},
		{[]*partition{p[1]}, "n1"},
		{[]*partition{p[1], p[2]}, "n1"},
		{[]*partition{p[0], p[1]}, ""},
		{[]*partition{p[1], p[0], p[2]}, "n1"},
	} {
		x := &parcel{partition: p[0]}
		for _, tried := range c.tried {
			x.tried = append(x.tried, trial{partition: tried})
		}
		if got := x.failedOver(); got != c.want {
			t.Errorf("n0 has it, tried were %d: got %q, want %q", len(c.tried), got, c.want)
		}
	}
}

func TestEnqueueOnAFullNode(t *testing.T) {
	r := newRig(t, 2, Options{InlineBody: 1000}, "--maxmemory-policy", "noeviction")
	fill(t, r.servers[0])
	ids, refused := r.enqueueMany(60, func(i int) *Message {
		m := plainOrNot(i)
		switch i % 4 {
		case 1:
			m.Body = make([]byte, 3000)
		case 2:
			m.DedupKey, m.DedupWindow = strconv.Itoa(i), time.Second
		case 3:
			m.OrderKey = strconv.Itoa(i % 3)
		}
		return m
	})
	if refused > 0 || len(ids) != 60 {
		t.Errorf("%d refused", refused)
	}
	if keys := r.raw().Keys(t.Context(), "*q:q*").Val(); len(keys) > 0 {
		t.Errorf("the full node has %q, want nothing of the queue", keys)
	}
	fill(t, r.servers[1])
	if ids, refused := r.enqueueMany(20, plainOrNot); len(ids) != 0 || refused != 20 {
		t.Errorf("with both full %d are accepted", len(ids))
	}
	for _, s := range r.servers {
		if err := s.Client(t).ConfigSet(t.Context(), "maxmemory", "0").Err(); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, 30*time.Second, "messages are taken again", func() bool {
		receipt, err := r.c.Enqueue(t.Context(), &Message{})
		if err == nil {
			ids[receipt.ID] = true
		}
		return err == nil && receipt.Node == "n0"
	})
	r.expectDelivered(ids, nil)
}

// fill makes a server full.
func fill(t *testing.T, s *redistest.Server) {
	t.Helper()
	client := s.Client(t)
	info := client.InfoMap(t.Context(), "memory").Val()
	used, err := strconv.Atoi(info["Memory"]["used_memory"])
	if err != nil {
		t.Fatal(err)
	}
	if err := client.ConfigSet(t.Context(), "maxmemory", strconv.Itoa(used-1000)).Err(); err != nil {
		t.Fatal(err)
	}
	if err := client.Set(t.Context(), "x", "", 0).Err(); err == nil || !strings.HasPrefix(err.Error(), "OOM") {
		t.Fatalf("it is not full: %v", err)
	}
}

func TestEnqueueOnAReplica(t *testing.T) {
	r := newRig(t, 2, Options{})
	r.enqueueMany(20, plainOrNot)
	host, port, _ := strings.Cut(r.servers[1].Addr(), ":")
	if err := r.raw().SlaveOf(t.Context(), host, port).Err(); err != nil {
		t.Fatal(err)
	}
	ids, refused := r.enqueueMany(60, plainOrNot)
	if refused > 0 || len(ids) != 60 {
		t.Errorf("%d refused", refused)
	}
	r.servers[1].Kill()
	if ids, _ := r.enqueueMany(8, plainOrNot); len(ids) != 0 {
		t.Errorf("%d accepted by a replica", len(ids))
	}
	if err := r.raw().SlaveOf(t.Context(), "no", "one").Err(); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, "messages are taken again", func() bool {
		_, err := r.c.Enqueue(t.Context(), &Message{})
		return err == nil
	})
}

// TestEnqueueOnANodeThatDoesNotServeUs: a password that was changed refuses whoever
// connects after that, before any command.
func TestEnqueueOnANodeThatDoesNotServeUs(t *testing.T) {
	for name, ack := range map[string]Ack{"memory": {}, "aof": {AOF: true}} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 2, Options{Ack: ack}, "--appendonly", "yes", "--appendfsync", "always")
			ids, _ := r.enqueueMany(20, plainOrNot)
			admin := r.raw()
			if err := errors.Join(admin.ConfigSet(t.Context(), "requirepass", "secret").Err(),
				admin.ClientKillByFilter(t.Context(), "type", "normal").Err()); err != nil {
				t.Fatal(err)
			}
			more, refused := r.enqueueMany(60, plainOrNot)
			if refused > 0 || len(more) != 60 {
				t.Errorf("%d refused", refused)
			}
			maps.Copy(ids, more)
			if err := admin.ConfigSet(t.Context(), "requirepass", "").Err(); err != nil {
				t.Fatal(err)
			}
			r.expectDelivered(ids, nil)
		})
	}
}

func TestEnqueueWhileConnectionsAreKilled(t *testing.T) {
	r := newRig(t, 1, Options{})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	before := r.commands(0)
	wg.Go(func() {
		client := r.raw()
		for {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
				// A slow machine gets some done between two kills, as a fast one does.
				if n := r.commands(0); n > before+400 {
					client.ClientKillByFilter(context.Background(), "TYPE", "normal", "SKIPME", "yes")
					before = n
				}
			}
		}
	})
	ids, refused := r.enqueueMany(4000, plainOrNot)
	close(stop)
	wg.Wait()
	if refused > 0 {
		t.Errorf("%d of 4000 are refused by a node that is there", refused)
	}
	r.expectDelivered(ids, nil)
}

func TestEnqueueOfACallerWhoLeaves(t *testing.T) {
	r := newRig(t, 1, Options{})
	r.enqueueMany(4, plainOrNot)
	r.servers[0].Pause()
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	var wg sync.WaitGroup
	quick := 0
	var mu sync.Mutex
	for i := range 20 {
		wg.Go(func() {
			_, err := r.c.Enqueue(ctx, plainOrNot(i))
			if err == nil {
				t.Error("accepted by a server that stands still")
			}
			mu.Lock()
			defer mu.Unlock()
			if time.Since(began) < 200*time.Millisecond {
				quick++
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("got %v, want %v", err, context.DeadlineExceeded)
				}
			}
		})
	}
	wg.Wait()
	if quick < 18 {
		t.Errorf("%d of 20 left in time, want all but those who send", quick)
	}
}
