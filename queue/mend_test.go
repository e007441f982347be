package queue

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// lose has a server lose its data.
func (r *rig) lose(i int) {
	r.servers[i].Kill()
	r.servers[i].Restart()
}

// eachHasACopy reports whether all that is dead or delayed on the servers has a second
// copy on another one, and nothing else has.
func (r *rig) eachHasACopy(set func(keys) string) bool {
	want := map[string]string{}
	for i, s := range r.servers {
		p := r.c.partitions[i]
		for _, rid := range s.Client(r.t).ZRange(context.Background(), set(p.keys), 0, -1).Val() {
			want[rid] = p.ref
		}
	}
	for i := range r.servers {
		for rid, second := range r.seconds(i) {
			if want[rid] != second.copy || want[rid] == r.c.partitions[i].ref {
				return false
			}
			delete(want, rid)
		}
	}
	return len(want) == 0
}

// Dead letters outlive their nodes, one after the other, as dead letters.
func TestDeadLettersSurviveTheirNodes(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3, Options{Copies: 2, Visibility: time.Second, InlineBody: 100})
	bodies := map[string]string{}
	for i := range 60 {
		m := &Message{ID: fmt.Sprint("m", i), Body: fmt.Append(nil, i)}
		switch i % 4 {
		case 1:
			m.OrderKey = fmt.Sprint(i % 3)
		case 2:
			m.Body = fmt.Append(nil, strings.Repeat("large ", 60_000), i)
		case 3:
			m.Expire = time.Hour
		}
		bodies[m.ID] = string(m.Body)
		r.enqueue(m)
	}
	refuse := func(context.Context, *Delivery) Result {
		return Result{Outcome: Dead, Status: 422, Reason: "bad " + "letter"}
	}
	_, drain := run(t, r.c, WorkerOptions{}, refuse)
	eventually(t, 20*time.Second, "all are dead", r.empty)
	check := func(c *Client) bool {
		infos, _, err := c.Dead(t.Context(), 1000, "")
		if err != nil || len(infos) != len(bodies) {
			return false
		}
		for _, i := range infos {
			if i.State != stateDead || i.Attempts != 1 || i.LastStatus != 422 || i.Reason != "bad letter" || bodies[i.ID] == "" {
				t.Errorf("got the dead letter %+v", i)
			}
		}
		return true
	}
	for i := range r.servers {
		eventually(t, 20*time.Second, "each has a copy", func() bool { return r.eachHasACopy(keys.dead) })
		if i == 2 { // another process need not have seen what was there before
			drain()
			r.lose(i)
			r.c = r.client()
			_, drain = run(t, r.c, WorkerOptions{}, refuse)
			defer drain()
		} else {
			r.lose(i)
		}
		eventually(t, 20*time.Second, fmt.Sprintf("all are dead letters without server %d", i), func() bool { return check(r.c) })
	}
	eventually(t, 20*time.Second, "each has a copy in the end", func() bool { return r.eachHasACopy(keys.dead) })
	drain()

	if n, err := r.c.Replay(t.Context(), nil, nil); n != len(bodies) || err != nil {
		t.Errorf("replaying: got %d, %v", n, err)
	}
	for i := range r.servers {
		for rid, second := range r.seconds(i) {
			if second.state == stateDead {
				t.Errorf("the copy of %s, which is replayed, is one of a dead letter", rid)
			}
		}
	}
	d := newDiary()
	_, drain = run(t, r.client(), WorkerOptions{}, d.done)
	eventually(t, 20*time.Second, "all are delivered", func() bool { return d.distinct() == len(bodies) && r.empty() && r.noCopies() })
	drain()
	for _, m := range d.deliveries() {
		if d.of(bodies[m.ID]) != 1 {
			t.Errorf("%s came with another body, or %d times", m.ID, d.of(bodies[m.ID]))
		}
	}
	r.expectEmpty()
}

// A server that comes back with an older snapshot has lost what came after it, though
// all that says which one it is has come back with it.
func TestDeadLettersSurviveAnOlderSnapshot(t *testing.T) {
	t.Parallel()
	r := newPatientRig(t, 10*time.Second, 2, Options{Copies: 2, Visibility: time.Second})
	_, drain := run(t, r.c, WorkerOptions{}, func(context.Context, *Delivery) Result { return Result{Outcome: Dead} })
	defer drain()
	eventually(t, 30*time.Second, "it is known what the nodes are", func() bool {
		for _, p := range r.c.partitions {
			p.taken.mu.Lock()
			n := len(p.taken.mending.seen)
			p.taken.mu.Unlock()
			if n == 0 {
				return false
			}
		}
		return true
	})
	r.servers[0].Save()
	const many = 20
	for i := range many {
		r.enqueue(&Message{Body: fmt.Append(nil, i)})
	}
	all := func() bool {
		infos, _, err := r.c.Dead(t.Context(), 10*many, "")
		return err == nil && len(infos) == many && r.empty()
	}
	eventually(t, 30*time.Second, "all are dead", all)
	r.servers[0].RestartWithData()
	if n := len(r.seconds(0)); n > 0 {
		t.Fatalf("the snapshot has %d second copies", n)
	}
	eventually(t, 30*time.Second, "all are dead letters again", all)
	eventually(t, 30*time.Second, "each has a copy", func() bool { return r.eachHasACopy(keys.dead) })
}

// What is delayed gets its copy again when the node of that has lost it.
func TestDelayedMessagesSurviveTheirNodes(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, Options{Copies: 2, Visibility: time.Second, InlineBody: 100})
	d := newDiary()
	_, drain := run(t, r.c, WorkerOptions{}, d.done)
	for i := range 20 {
		m := &Message{Body: fmt.Append(nil, i), Delay: 9 * time.Second}
		if i%2 == 0 {
			m.Body = fmt.Append(nil, strings.Repeat("large ", 100), i)
		}
		r.enqueue(m)
	}
	before := time.Now()
	time.Sleep(time.Second) // it is known what the nodes are
	eventually(t, 30*time.Second, "each has a copy", func() bool { return r.eachHasACopy(keys.delayed) })
	r.lose(0)
	// Those whose firsts were there come in time; the others get their copies again.
	eventually(t, 30*time.Second, "those of the other node have a copy again", func() bool {
		n := r.servers[1].Client(t).ZCard(t.Context(), r.c.partitions[1].keys.delayed()).Val()
		return n > 0 && len(r.seconds(0)) == int(n)
	})
	if time.Since(before) > 8500*time.Millisecond {
		t.Skip("the machine is too slow for this")
	}
	// A copy that is on the node which is lost now is of what the first loss made
	// overdue; the others are what this is about.
	due := map[string]bool{}
	for _, second := range r.seconds(0) {
		due[second.id] = true
	}
	r.lose(1)
	eventually(t, 20*time.Second, "they are delivered", func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		for _, m := range d.all {
			delete(due, m.ID)
		}
		return len(due) == 0
	})
	drain()
	if twice := d.twice(); len(twice) > 0 {
		t.Errorf("more than once: %v", twice)
	}
}

// A copy that was not told learns that its first is a dead letter when it asks, and
// that it is none any more.
func TestCopyAsksForWhatItWasNotTold(t *testing.T) {
	t.Parallel()
	r := newPatientRig(t, 10*time.Second, 2, Options{Copies: 2, Visibility: time.Second})
	r.makeDead(&Message{ID: "a", Body: []byte("x")})
	_, second := r.withTheFirst()
	k, raw := r.c.partitions[second].keys, r.servers[second].Client(t)
	eventually(t, 30*time.Second, "it is told", func() bool { return r.seconds(second)["a"].state == stateDead })
	raw.HDel(t.Context(), k.second("a"), "s", "r", "l", "e")
	raw.ZAdd(t.Context(), k.seconds(), z(1, "a"))
	_, drain := run(t, r.c, WorkerOptions{}, newDiary().done)
	eventually(t, 30*time.Second, "it knows", func() bool {
		c := r.seconds(second)["a"]
		return c.state == stateDead && c.reason == "bad" && c.lastStatus == 400 && c.attempts == 1
	})
	drain()
	if n, err := r.c.Replay(t.Context(), nil, nil); n != 1 || err != nil {
		t.Fatalf("replaying: %d, %v", n, err)
	}
	if c := r.seconds(second)["a"]; c.state != "" || c.reason != "" {
		t.Errorf("after a replay the copy is %+v", c)
	}
	// As if the replay had not been told.
	raw.HSet(t.Context(), k.second("a"), "s", stateDead, "r", "bad")
	raw.ZAdd(t.Context(), k.seconds(), z(1, "a"))
	if err := r.c.SetPaused(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	d := newDiary()
	_, drain = run(t, r.client(), WorkerOptions{}, d.done)
	eventually(t, 30*time.Second, "it knows that it is none", func() bool { return r.seconds(second)["a"].state == "" })
	if err := r.c.SetPaused(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, "it is done", func() bool { return d.total() == 1 && r.empty() && r.noCopies() })
	drain()
	r.expectEmpty()
}

// afterScript is a hook of a client that does something as soon as a script was run.
type afterScript func()

func (do afterScript) DialHook(next redis.DialHook) redis.DialHook { return next }

func (do afterScript) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (do afterScript) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if err == nil && strings.HasPrefix(cmd.Name(), "eval") {
			do()
		}
		return err
	}
}

// A worker that stops while it writes a copy again leaves none of which the message
// does not know: that would come back when the message is long done.
func TestCopyThatIsWrittenAtTheEndIsKnown(t *testing.T) {
	t.Parallel()
	r := newPatientRig(t, 10*time.Second, 2, Options{Copies: 2})
	r.makeDead(&Message{ID: "a", Body: []byte("x")})
	first, second := r.withTheFirst()
	eventually(t, 30*time.Second, "the copy knows that it is dead", func() bool { return r.seconds(second)["a"].state == stateDead })
	raw, p := r.servers[first].Client(t), r.c.partitions[first]
	for _, ends := range []bool{false, true} {
		r.servers[second].Client(t).FlushAll(t.Context())
		raw.HDel(t.Context(), p.keys.record("a"), "c")
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		if ends {
			r.c.partitions[second].client().AddHook(afterScript(cancel))
		}
		s := newSource(&Worker{client: r.c, o: WorkerOptions{Observe: nobody{}}}, p)
		if over, err := s.copyOne(ctx, p.keys.dead(), "a", r.c.partitions[second]); !over || err != nil {
			t.Errorf("got %v, %v", over, err)
		}
		if c := raw.HGet(t.Context(), p.keys.record("a"), "c").Val(); len(r.seconds(second)) != 1 || c != r.c.partitions[second].ref {
			t.Errorf("stopped %v: there are %d copies, and the message knows of %q", ends, len(r.seconds(second)), c)
		}
	}
}

// Copies that the node which lost them does not take at first are written later.
func TestCopyThatIsRefusedAtFirstIsWrittenLater(t *testing.T) {
	t.Parallel()
	r := newPatientRig(t, 10*time.Second, 2, Options{Copies: 2}, "--maxmemory-policy", "noeviction")
	r.makeDead(&Message{ID: "a", Body: []byte("x")})
	first, second := r.withTheFirst()
	mend := func() {
		t.Helper()
		for _, i := range []int{second, first} {
			eventually(t, 30*time.Second, "the nodes are seen", func() bool {
				return newSource(&Worker{client: r.c, o: WorkerOptions{Observe: nobody{}}}, r.c.partitions[i]).mend(t.Context()) == nil
			})
		}
	}
	mend()
	client := r.servers[second].Client(t)
	client.FlushAll(t.Context())
	client.ConfigSet(t.Context(), "maxmemory", "1")
	mend()
	if n := len(r.seconds(second)); n != 0 {
		t.Fatalf("a full node has taken %d copies", n)
	}
	client.ConfigSet(t.Context(), "maxmemory", "0")
	mend()
	if n := len(r.seconds(second)); n != 1 {
		t.Errorf("%d copies are there, want 1", n)
	}
}

// Of two processes that write a copy again at the same time, on different nodes, one
// takes its own back.
func TestCopyThatTwoWriteIsThereOnce(t *testing.T) {
	t.Parallel()
	r := newPatientRig(t, 10*time.Second, 3, Options{Copies: 2})
	r.makeDead(&Message{ID: "a", Body: []byte("x")})
	first := 0
	for len(r.deadOn(first)) == 0 {
		first++
	}
	raw, at := r.servers[first].Client(t), r.c.partitions[first].keys.record("a")
	others := []int{(first + 1) % 3, (first + 2) % 3}
	for _, i := range others {
		r.servers[i].Client(t).FlushAll(t.Context())
	}
	raw.HDel(t.Context(), at, "c")
	ours, theirs := others[0], r.c.partitions[others[1]].ref
	r.c.partitions[ours].client().AddHook(afterScript(func() { raw.HSet(t.Context(), at, "c", theirs) }))
	s := newSource(&Worker{client: r.c, o: WorkerOptions{Observe: nobody{}}}, r.c.partitions[first])
	if over, err := s.copyOne(t.Context(), s.p.keys.dead(), "a", r.c.partitions[ours]); !over || err != nil {
		t.Errorf("got %v, %v", over, err)
	}
	if c := raw.HGet(t.Context(), at, "c").Val(); c != theirs || len(r.seconds(ours)) != 0 {
		t.Errorf("the message knows of a copy on %q, want %q, and there are %d more", c, theirs, len(r.seconds(ours)))
	}
}
