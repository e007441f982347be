package queue

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

// onBoth runs a test on independent servers and on a Redis Cluster. configured
// returns a client with these options. What is enqueued twice is delivered twice, so that
// nodes may take long to answer.
func onBoth(t *testing.T, do func(t *testing.T, configured func(Options) *Client)) {
	t.Run("servers", func(t *testing.T) {
		t.Parallel()
		r := newPatientRig(t, 10*time.Second, 2, Options{})
		do(t, func(o Options) *Client { r.o = o; return r.client() })
	})
	t.Run("cluster", func(t *testing.T) {
		t.Parallel()
		cluster := redistest.StartCluster(t, 3, 0)
		partitions := patientClusterClient(t, 10*time.Second, cluster, 4).o.Partitions
		do(t, func(o Options) *Client {
			o.Name, o.Partitions = "q", partitions
			c, err := NewClient(o)
			if err != nil {
				t.Fatal(err)
			}
			return c
		})
	})
}

// allKeysOf returns all keys of all partitions.
func allKeysOf(t *testing.T, c *Client) (out []string) {
	t.Helper()
	seen := map[string]bool{}
	for _, p := range c.partitions {
		client, err := p.oneServer(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range client.Keys(context.Background(), "*").Val() {
			if client.PTTL(context.Background(), key).Val() < 0 && !seen[key] {
				seen[key] = true
				out = append(out, key)
			}
		}
	}
	slices.Sort(out)
	return out
}

// wantLanesNoted: a lane that has a stream has its name in T:l.
func wantLanesNoted(t *testing.T, c *Client) {
	t.Helper()
	for _, key := range allKeysOf(t, c) {
		tag, rest, _ := strings.Cut(key, "}:")
		name, is := strings.CutSuffix(rest, "s")
		if !is || name != "" && !strings.HasSuffix(name, "/:") && !strings.Contains(name, "/") {
			continue
		}
		name = strings.TrimSuffix(name, ":")
		i := slices.IndexFunc(c.partitions, func(p *partition) bool { return string(p.keys) == tag+"}" })
		for _, p := range c.partitions[i:] {
			if string(p.keys) != tag+"}" || p.client().Exists(t.Context(), key).Val() == 0 {
				continue
			}
			if !p.client().HExists(t.Context(), p.keys.lanes(), name).Val() {
				t.Errorf("%s is there on %s, and its lane is not noted", key, p.ref)
			}
		}
	}
}

// kindsOf returns messages of many kinds for a class, and their bodies.
func kindsOf(class string) (ms []*Message, bodies []string) {
	add := func(name string, m *Message) {
		m.Class, m.Body = class, []byte(class+" "+name)
		ms, bodies = append(ms, m), append(bodies, string(m.Body))
	}
	for i := range 5 {
		add(fmt.Sprint("plain", i), &Message{})
		add(fmt.Sprint("tracked", i), &Message{Track: true})
		add(fmt.Sprint("delayed", i), &Message{Delay: 300 * time.Millisecond})
		add(fmt.Sprint("ordered", i), &Message{OrderKey: "k"})
	}
	return ms, bodies
}

func sum(counts []Count) (out Count) {
	for _, c := range counts {
		out.Ready, out.InFlight, out.Delayed, out.Dead = out.Ready+c.Ready, out.InFlight+c.InFlight, out.Delayed+c.Delayed, out.Dead+c.Dead
		for d, n := range c.Abandoned {
			if out.Abandoned == nil {
				out.Abandoned = map[string]int64{}
			}
			out.Abandoned[d] += n
		}
		out.Oldest = max(out.Oldest, c.Oldest)
		if c.Err != nil {
			out.Err = c.Err
		}
	}
	return out
}

// What lies in a class that the options do not have any more is counted, found and
// delivered; and when it is, nothing of the class is left.
func TestRetiredClassIsDelivered(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, configured func(Options) *Client) {
		before := configured(Options{Classes: []Class{{"high", 5}, {"old", 2}}})
		ms, bodies := kindsOf("old")
		receipts, err := before.EnqueueBatch(t.Context(), ms)
		if err != nil {
			t.Fatal(err)
		}
		wantLanesNoted(t, before)
		after := configured(Options{Classes: []Class{{"high", 5}}})
		if n := sum(after.Counts(t.Context())); n.Err != nil || n.Ready+n.Delayed != int64(len(ms)) || n.Abandoned != nil {
			t.Errorf("counted %+v, want %d", n, len(ms))
		}
		if found, err := after.Find(t.Context(), receipts[0].ID); err != nil || len(found) != 1 || found[0].Class != "old" {
			t.Errorf("found %+v %v", found, err)
		}
		if found, err := after.Peek(t.Context(), 100); err != nil || len(found) < 10 {
			t.Errorf("saw %d %v", len(found), err)
		}
		d := newDiary()
		_, drain := run(t, after, WorkerOptions{}, d.done)
		eventually(t, 60*time.Second, "all are delivered", func() bool { return d.distinct() == len(bodies) })
		eventually(t, 60*time.Second, "nothing of the class is left", func() bool {
			return !slices.ContainsFunc(allKeysOf(t, after), func(key string) bool { return strings.HasSuffix(key, "/old:s") })
		})
		wantLanesNoted(t, after)
		drain()
		if left := allKeysOf(t, after); len(left) > 0 {
			t.Errorf("left: %q", left)
		}
		if twice := d.twice(); len(twice) > 0 {
			t.Errorf("delivered twice: %q", twice)
		}
	})
}

// age makes a lane one that has been abandoned for long.
func ageLanes(t *testing.T, c *Client, d time.Duration) {
	t.Helper()
	for _, p := range c.partitions {
		for name, since := range p.client().HGetAll(t.Context(), p.keys.lanes()).Val() {
			if since != "0" {
				p.client().HSet(t.Context(), p.keys.lanes(), name, time.Now().Add(-d).UnixMilli())
			}
		}
	}
}

// A plain message makes no stream by itself; so where data is lost, the name of
// its lane is there again with the stream.
func TestLaneIsNotedAgainAfterALoss(t *testing.T) {
	t.Parallel()
	r := newPatientRig(t, 10*time.Second, 1, Options{Classes: []Class{{"high", 2}}})
	for range 3 {
		r.enqueue(&Message{}, &Message{Class: "high"}, &Message{Class: "high"})
		wantLanesNoted(t, r.c)
		if _, err := r.c.EnqueueBatch(t.Context(), []*Message{{}, {Class: "high"}, {}, {Class: "high", Track: true}}); err != nil {
			t.Fatal(err)
		}
		if n := sum(r.c.Counts(t.Context())); n.Ready != 7 {
			t.Errorf("%d are ready, want 7", n.Ready)
		}
		r.raw().FlushAll(t.Context())
		if _, err := r.c.EnqueueBatch(t.Context(), []*Message{{}, {Class: "high"}, {}, {Class: "high"}}); err != nil {
			t.Fatal(err)
		}
		if n := sum(r.c.Counts(t.Context())); n.Ready != 4 {
			t.Errorf("%d of a batch are ready, want 4", n.Ready)
		}
		wantLanesNoted(t, r.c)
		r.raw().FlushAll(t.Context())
	}
}

// The names come back where somebody has deleted them.
func TestLanesAreNotedAgain(t *testing.T) {
	t.Parallel()
	r := newPatientRig(t, 10*time.Second, 1, Options{Classes: []Class{{"high", 2}}})
	r.enqueue(&Message{}, &Message{Class: "high"})
	r.raw().Del(t.Context(), r.c.partitions[0].keys.lanes())
	r.c.Counts(t.Context())
	wantLanesNoted(t, r.c)
	if n := r.raw().HLen(t.Context(), r.c.partitions[0].keys.lanes()).Val(); n != 2 {
		t.Errorf("%d lanes are noted, want 2", n)
	}
}

// A name whose stream somebody has deleted goes.
func TestLaneWithoutAStreamIsForgotten(t *testing.T) {
	t.Parallel()
	r := newPatientRig(t, 10*time.Second, 1, Options{})
	lanes := r.c.partitions[0].keys.lanes()
	r.raw().HSet(t.Context(), lanes, "/old", "0")
	d := newDiary()
	_, drain := run(t, r.c, WorkerOptions{}, d.done)
	r.enqueue(&Message{})
	eventually(t, 60*time.Second, "the name goes", func() bool {
		return d.total() == 1 && !r.raw().HExists(t.Context(), lanes, "/old").Val()
	})
	drain()
	r.expectEmpty()
}

// Streams that are taken away as soon as they are empty lose nothing of what is put in
// meanwhile, alone or in batches, and nothing comes twice.
func TestLaneIsTakenAwayWhileInUse(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, configured func(Options) *Client) {
		c := configured(Options{Classes: []Class{{"high", 5}}})
		d := newDiary()
		run(t, c, WorkerOptions{}, d.done)
		var taking sync.WaitGroup
		defer taking.Wait()
		stop := make(chan struct{})
		defer close(stop)
		for _, p := range c.partitions {
			taking.Go(func() {
				keys := append([]string{p.keys.lanes()}, p.laneStreams(c.lanes)...)
				for {
					select {
					case <-stop:
						return
					case <-time.After(time.Millisecond):
					}
					if err := leaveScript.run(context.Background(), p, keys, group, "another", 0, c.lanes[0], c.lanes[1]).Err(); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		const n = 300
		var putting sync.WaitGroup
		for of := range 4 {
			putting.Go(func() {
				m := func(i int) *Message {
					return &Message{Class: []string{"", "high"}[i%2], Body: fmt.Appendf(nil, "%d %d", of, i), Track: i%7 == 0}
				}
				for i := 0; i < n; i += 3 {
					if _, err := c.Enqueue(t.Context(), m(i)); err != nil {
						t.Error(err)
					}
					if _, err := c.EnqueueBatch(t.Context(), []*Message{m(i + 1), m(i + 2)}); err != nil {
						t.Error(err)
					}
				}
			})
		}
		putting.Wait()
		eventually(t, 120*time.Second, "all are delivered", func() bool { return d.distinct() == 4*n })
		if twice := d.twice(); len(twice) > 0 {
			t.Errorf("delivered twice: %q", twice)
		}
	})
}

// What may stand in a record that is no lane is delivered as what is in the first.
func TestLaneThatIsNone(t *testing.T) {
	t.Parallel()
	r := newPatientRig(t, 10*time.Second, 1, Options{Destinations: []string{"mail"}})
	r.enqueue(&Message{ID: "x", Delay: 100 * time.Millisecond})
	p := r.c.partitions[0]
	for i, name := range []string{"no lane", "m:x~mail", "/", "a/b/c", "{}"} {
		rid := fmt.Sprint("y", i)
		r.raw().Copy(t.Context(), p.keys.record("x~mail"), p.keys.record(rid), 0, false)
		r.raw().HSet(t.Context(), p.keys.record(rid), "g", name)
		r.raw().ZAdd(t.Context(), p.keys.delayed(), redis.Z{Score: 1, Member: rid})
	}
	d := newDiary()
	run(t, r.c, WorkerOptions{Destination: "mail"}, d.done)
	eventually(t, 30*time.Second, "all are delivered", func() bool { return d.total() == 6 })
}

// What is delayed for a destination that the options do not have, or a class, is not
// made ready for another one; also where nothing else says that there is such a lane.
func TestDelayedKeepsItsLane(t *testing.T) {
	t.Parallel()
	r := newPatientRig(t, 10*time.Second, 1, Options{Destinations: []string{"mail", "crm"}, Classes: []Class{{"old", 2}}})
	r.enqueue(&Message{Delay: 200 * time.Millisecond, Class: "old"})
	r.o.Destinations, r.o.Classes = []string{"mail"}, nil
	after := r.client()
	d := newDiary()
	run(t, after, WorkerOptions{Destination: "mail"}, d.done)
	eventually(t, 60*time.Second, "one is delivered, one counted", func() bool {
		n := sum(after.Counts(t.Context()))
		return n.Err == nil && d.total() == 1 && n.Delayed == 0 && n.Ready == 1 && n.Abandoned["crm"] == 1
	})
	if got := d.deliveries()[0]; got.Destination != "mail" || got.Class != "old" {
		t.Errorf("got a message of %q, %q", got.Destination, got.Class)
	}
}

// A dead letter of a destination that is gone is found by its message's name also where
// others of the message are dead letters.
func TestDeadOfBothIsReplayed(t *testing.T) {
	t.Parallel()
	r := newPatientRig(t, 10*time.Second, 2, Options{Destinations: []string{"mail", "crm"}})
	id := r.enqueue(&Message{})[0].ID
	for _, d := range r.o.Destinations {
		_, drain := run(t, r.c, WorkerOptions{Destination: d}, func(context.Context, *Delivery) Result { return Result{Outcome: Dead} })
		defer drain()
	}
	eventually(t, 60*time.Second, "both are dead letters", func() bool { return sum(r.c.Counts(t.Context())).Dead == 2 })
	r.o.Destinations = []string{"mail"}
	if n, err := r.client().Drop(t.Context(), []string{id}, nil); n != 2 || err != nil {
		t.Errorf("dropped %d, %v, want 2", n, err)
	}
	if n := sum(r.c.Counts(t.Context())); n.Dead != 0 {
		t.Errorf("%d dead letters are left", n.Dead)
	}
}

// A full node drains, with a class that is gone and that nobody ever took from.
func TestRetiredClassOnAFullNode(t *testing.T) {
	t.Parallel()
	r := newPatientRig(t, 10*time.Second, 1, Options{Classes: []Class{{"old", 2}}}, "--maxmemory-policy", "noeviction")
	r.enqueue(&Message{Class: "old", Body: []byte("old")}, &Message{Body: []byte("m")})
	r.o.Classes = nil
	after, d := r.client(), newDiary()
	r.raw().ConfigSet(t.Context(), "maxmemory", "1")
	run(t, after, WorkerOptions{}, d.done)
	eventually(t, 60*time.Second, "a full node drains", func() bool { return d.distinct() == 2 })
	eventually(t, 60*time.Second, "nothing of the class is left", func() bool {
		names := r.raw().HKeys(t.Context(), after.partitions[0].keys.lanes()).Val()
		return len(names) == 1 && names[0] == "" && r.raw().Exists(t.Context(), after.partitions[0].keys.stream("/old")).Val() == 0
	})
	if twice := d.twice(); len(twice) > 0 {
		t.Errorf("delivered twice: %q", twice)
	}
}
