package queue

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

// follow makes a replica of a server.
func follow(t *testing.T, master *redistest.Server) *redistest.Server {
	t.Helper()
	replica := redistest.Start(t)
	host, port, _ := strings.Cut(master.Addr(), ":")
	if err := replica.Client(t).SlaveOf(t.Context(), host, port).Err(); err != nil {
		t.Fatal(err)
	}
	// A replica that loads what the master had at first counts already.
	written, read := master.Client(t), replica.Client(t)
	eventually(t, 20*time.Second, "the replica follows", func() bool {
		written.Set(t.Context(), "followed", "yes", 0)
		return written.Wait(t.Context(), 1, time.Second).Val() == 1 && read.Get(t.Context(), "followed").Val() == "yes"
	})
	written.Del(t.Context(), "followed")
	return replica
}

// kinds are messages that take all ways in.
func kinds() map[string]func() *Message {
	return map[string]func() *Message{
		"plain":   func() *Message { return &Message{Body: []byte("b")} },
		"expires": func() *Message { return &Message{Expire: time.Hour} },
		"delayed": func() *Message { return &Message{Delay: 200 * time.Millisecond} },
		"long":    func() *Message { return &Message{Delay: time.Hour} },
		"dedup":   func() *Message { return &Message{DedupKey: newID(), DedupWindow: time.Minute} },
		"ordered": func() *Message { return &Message{OrderKey: "o"} },
		"named":   func() *Message { return &Message{ID: newID()} },
		"tracked": func() *Message { return &Message{Track: true} },
		"chunks":  func() *Message { return &Message{Body: patternOf(5000)} },
		"all": func() *Message {
			return &Message{ID: newID(), DedupKey: newID(), DedupWindow: time.Minute, OrderKey: "o", Expire: time.Hour, Body: patternOf(5000)}
		},
	}
}

// eachWay runs a test for one destination and for two, side by side: what is
// hidden takes its time.
func eachWay(t *testing.T, do func(t *testing.T, o Options)) {
	t.Parallel()
	for name, destinations := range map[string][]string{"one": nil, "two": {"a", "b"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			do(t, Options{Ack: Ack{Replicas: 1}, InlineBody: 1000, Destinations: destinations, Backlog: Backlog{Bytes: 1 << 20}})
		})
	}
}

// enqueueKinds puts four messages of each kind in, all at once. Those that are
// refused are tried so often: a machine under load may be too slow for its replica.
func enqueueKinds(t *testing.T, c *Client, tries int, told func(name string, m *Message, receipt Receipt, err error)) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	for name, kind := range kinds() {
		for range 4 {
			wg.Go(func() {
				var m *Message
				var receipt Receipt
				err := errTest
				for try := 0; err != nil && try < tries; try++ {
					m = kind()
					began := time.Now()
					receipt, err = c.Enqueue(t.Context(), m)
					if took := time.Since(began); took > 5*time.Second {
						t.Errorf("%s: it took %v to say %v", name, took, err)
					}
				}
				mu.Lock()
				defer mu.Unlock()
				told(name, m, receipt, err)
			})
		}
	}
	wg.Wait()
}

func TestAckOfReplicas(t *testing.T) {
	eachWay(t, func(t *testing.T, o Options) {
		r := newRig(t, 1, o)
		replica := follow(t, r.servers[0])
		if err := r.c.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
		ids := map[string]bool{}
		enqueueKinds(t, r.c, 5, func(name string, m *Message, receipt Receipt, err error) {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if m.Delay < time.Hour {
				ids[receipt.ID] = true
			}
		})
		if n := replica.Client(t).DBSize(t.Context()).Val(); n == 0 {
			t.Error("the replica has nothing")
		}
		// They are shown at once, also what has to wait for its turn.
		seen := newDiary()
		_, drain := run(t, r.c, WorkerOptions{Destination: r.c.o.Destinations[0]}, seen.done)
		eventually(t, hideTime-time.Second, "they are delivered", func() bool { return seen.total() >= len(ids) })
		drain()
		var hidden []string
		for _, id := range r.raw().ZRange(t.Context(), r.c.partitions[0].keys.delayed(), 0, -1).Val() {
			if id, destination := splitRecordID(id); destination != "b" && ids[id] {
				hidden = append(hidden, id)
			}
		}
		if len(hidden) > 0 {
			t.Errorf("delivered, and hidden still: %q", hidden)
		}
		for _, d := range seen.deliveries() {
			if !ids[d.ID] {
				t.Errorf("%s was delivered, which nobody put in, or which is delayed", d.ID)
			}
		}
	})
}

// Nobody waits for the replicas of what was not written, as with the first script
// that a server is asked for: here that would take all the time there is.
func TestAckOfWhatWasNotWritten(t *testing.T) {
	r := newPatientRig(t, 3*time.Second, 1, Options{Ack: Ack{Replicas: 1}})
	if _, err := r.c.Enqueue(t.Context(), &Message{DedupKey: "k", DedupWindow: time.Minute}); !errors.Is(err, ErrDurability) {
		t.Errorf("got %v, want %v", err, ErrDurability)
	}
}

func TestAckOfReplicasThatIsNotReachedDeliversNothing(t *testing.T) {
	eachWay(t, func(t *testing.T, o Options) {
		r := newRig(t, 2, o)
		replica := follow(t, r.servers[0])
		// On the one with a replica, which may be late on a machine under load.
		eventually(t, 30*time.Second, "one is accepted", func() bool {
			_, err := r.c.Enqueue(t.Context(), &Message{})
			return err == nil
		})
		if n := len(r.servers[1].Client(t).Keys(t.Context(), "*").Val()); n != 0 {
			t.Errorf("the server without a replica has %d keys", n)
		}
		replica.Pause()
		seen := newDiary()
		for _, destination := range r.c.o.Destinations {
			run(t, r.c, WorkerOptions{Destination: destination}, seen.done)
		}
		want := len(r.c.o.Destinations)
		eventually(t, 4*time.Second, "the first is delivered", func() bool { return seen.total() == want })
		enqueueKinds(t, r.c, 1, func(name string, _ *Message, _ Receipt, err error) {
			if !errors.Is(err, ErrDurability) {
				t.Errorf("%s: got %v, want %v", name, err, ErrDurability)
			}
		})
		receipts, _ := r.c.EnqueueBatch(t.Context(), []*Message{{}, {Expire: time.Hour}, {OrderKey: "p"}, {OrderKey: "p"}})
		for i, receipt := range receipts {
			if !errors.Is(receipt.Err, ErrDurability) {
				t.Errorf("%d of a batch: got %v, want %v", i, receipt.Err, ErrDurability)
			}
		}
		time.Sleep(hideTime + time.Second)
		if n := seen.total(); n != want {
			t.Errorf("%d deliveries, want %d of the first message alone", n, want)
		}
		for _, s := range r.servers {
			for _, key := range s.Client(t).Keys(t.Context(), "*").Val() {
				if !strings.HasSuffix(key, ":s") && !strings.HasSuffix(key, "}:l") {
					t.Errorf("there is still %s", key)
				}
			}
		}
	})
}

func TestAckOfAOFWhereAllIsOnDiskAtOnce(t *testing.T) {
	r := newRig(t, 1, Options{Ack: Ack{AOF: true}}, "--appendonly", "yes", "--appendfsync", "always")
	if err := r.c.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	ids, refused := r.enqueueMany(100, plainOrNot)
	if refused != 0 {
		t.Errorf("%d refused", refused)
	}
	if n := len(r.entries("")); n != 100 {
		t.Errorf("%d are ready, want 100: none is hidden", n)
	}
	r.servers[0].Kill()
	r.servers[0].RestartWithData()
	r.expectDelivered(ids, nil)
}

func TestAckOfAOFThatAServerCannotGive(t *testing.T) {
	r := newRig(t, 1, Options{Ack: Ack{AOF: true}})
	if err := r.c.Check(t.Context()); err == nil || !strings.Contains(err.Error(), `"n0"`) {
		t.Errorf("got %v, want an error with the node's name", err)
	}
	for range 2 {
		within(t, 500*time.Millisecond, "refusing", func() {
			if _, err := r.c.Enqueue(t.Context(), &Message{}); !errors.Is(err, ErrDurability) {
				t.Errorf("got %v, want %v", err, ErrDurability)
			}
		})
	}
	if keys := r.keys(); len(keys) > 0 {
		t.Errorf("there is %q", keys)
	}
}

func TestAckOfAOFWhenTheServerIsToldOtherwise(t *testing.T) {
	r := newRig(t, 1, Options{Ack: Ack{AOF: true}}, "--appendonly", "yes", "--appendfsync", "always")
	r.enqueue(&Message{})
	if err := r.raw().ConfigSet(t.Context(), "appendfsync", "no").Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.c.Enqueue(t.Context(), &Message{}); !errors.Is(err, ErrDurability) {
		t.Errorf("got %v, want %v", err, ErrDurability)
	}
}

func TestCheckLeavesOutWhatIsAway(t *testing.T) {
	r := newRig(t, 2, Options{Ack: Ack{AOF: true}}, "--appendonly", "yes", "--appendfsync", "always")
	r.servers[0].Kill()
	if err := r.c.Check(t.Context()); err != nil {
		t.Error(err)
	}
	r.servers[1].Pause()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	within(t, 2*time.Second, "asking a server that stands still", func() {
		if err := r.c.Check(ctx); err != nil {
			t.Error(err)
		}
	})
}

// That no replica has a message in time is not the node's fault, however late an
// idle server says so: it looks ten times a second whose time is over.
func TestAckThatIsNotReachedIsNoFaultOfTheNode(t *testing.T) {
	t.Parallel()
	r := newPatientRig(t, 100*time.Millisecond, 1, Options{Ack: Ack{Replicas: 1}})
	p := r.c.partitions[0]
	connections := func() int {
		info := r.raw().Info(t.Context(), "stats").Val()
		_, rest, _ := strings.Cut(info, "total_connections_received:")
		text, _, _ := strings.Cut(rest, "\r")
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := 0
	for i := range 40 {
		if _, err := r.c.Enqueue(t.Context(), &Message{}); !errors.Is(err, ErrDurability) {
			t.Errorf("without a replica: got %v, want %v", err, ErrDurability)
		}
		if p.resting() {
			t.Fatalf("after %d messages the node rests", i+1)
		}
		if i == 4 { // it is connected
			before = connections()
		}
	}
	if more := connections() - before; more > 3 { // some that were too slow for other reasons
		t.Errorf("%d connections were lost", more)
	}
}

// A message is the caller's again when Enqueue has returned, also where another
// caller is left alone with what is sent of it. The race detector judges.
func TestMessageIsTheCallersAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, Options{Ack: Ack{Replicas: 1}}) // of which it has none
	r.c.Enqueue(t.Context(), &Message{})              //nolint:errcheck // it is refused, and has connected
	var wg sync.WaitGroup
	for range 4 * maxFlyingDurable { // some wait until others are told that there is no replica
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 450*time.Millisecond)
			defer cancel()
			m := &Message{DedupKey: newID(), DedupWindow: time.Minute, Body: []byte("body")}
			if _, err := r.c.Enqueue(ctx, m); err == nil {
				t.Error("accepted without a replica")
			}
			m.ID, m.DedupKey, m.DedupWindow, m.Header = "another", "another", time.Hour, map[string]string{}
			clear(m.Body)
		})
	}
	wg.Wait()
	eventually(t, 30*time.Second, "nothing is under way", func() bool {
		c := &r.c.partitions[0].combiner
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.leaders == 0
	})
}
