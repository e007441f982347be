package queue

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// disturb does something to the first server again and again while n messages
// are put in and delivered; each must be delivered, at least once.
func disturb(t *testing.T, n int, every time.Duration, do func(r *rig)) (*rig, *diary) {
	t.Helper()
	r := newRig(t, 2, Options{Visibility: 2 * time.Second})
	d := newDiary()
	deliver := func(_ context.Context, m *Delivery) Result {
		time.Sleep(2 * time.Millisecond)
		d.note(m)
		return Result{Outcome: Done}
	}
	_, drain := run(t, r.c, WorkerOptions{Attempts: 1000}, deliver)
	_, drainOther := run(t, r.client(), WorkerOptions{Attempts: 1000}, deliver)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(every):
				do(r)
			}
		}
	})
	for i := range n {
		m := &Message{Body: fmt.Append(nil, i)}
		if i%5 == 0 {
			m.Track = true
		}
		eventually(t, 30*time.Second, "the message is in", func() bool {
			_, err := r.c.Enqueue(t.Context(), m)
			return err == nil
		})
	}
	eventually(t, 20*time.Second, "all are delivered", func() bool { return d.distinct() == n })
	close(stop)
	wg.Wait()
	eventually(t, 20*time.Second, "all is recorded", r.empty)
	drain()
	drainOther()
	r.expectEmpty()
	return r, d
}

func TestScriptFlushInALoop(t *testing.T) {
	_, d := disturb(t, 500, 3*time.Millisecond, func(r *rig) { r.raw().ScriptFlush(context.Background()) })
	if twice := d.twice(); len(twice) > 0 {
		t.Errorf("more than once: %v", twice)
	}
}

func TestClientKillInALoop(t *testing.T) {
	_, d := disturb(t, 500, 50*time.Millisecond, func(r *rig) {
		r.raw().Do(context.Background(), "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
	})
	// A reply of Enqueue that was lost is a message that went elsewhere as well. One
	// of a worker is no second delivery.
	if twice := d.twice(); len(twice) > 25 {
		t.Errorf("%d more than once: %v", len(twice), twice)
	}
}

func TestGroupDestroyInALoop(t *testing.T) {
	disturb(t, 300, 100*time.Millisecond, func(r *rig) {
		r.raw().XGroupDestroy(context.Background(), r.c.partitions[0].keys.stream(""), group)
	})
}

// What was under way when its node lost everything ends without touching what
// came after.
func TestFlushAll(t *testing.T) {
	r := newRig(t, 1, Options{Visibility: time.Second})
	r.enqueue(&Message{OrderKey: "k", Body: []byte("under way")}, &Message{OrderKey: "k", Body: []byte("waits")})
	d := newDiary()
	goOn := map[string]chan struct{}{"under way": make(chan struct{}), "new": make(chan struct{})}
	_, drain := run(t, r.c, WorkerOptions{}, func(_ context.Context, m *Delivery) Result {
		d.note(m)
		if c := goOn[string(m.Body)]; c != nil {
			<-c
		}
		return Result{Outcome: Done}
	})
	eventually(t, 30*time.Second, "the first is under way", func() bool { return d.total() == 1 })
	r.raw().FlushAll(context.Background())
	r.enqueue(&Message{OrderKey: "k", Body: []byte("new")}, &Message{OrderKey: "k", Body: []byte("next")})
	eventually(t, 30*time.Second, "the new one is under way", func() bool { return d.of("new") == 1 })
	close(goOn["under way"])
	time.Sleep(300 * time.Millisecond)
	if d.of("next") > 0 {
		t.Error("the end of the lost one has made the next one ready")
	}
	close(goOn["new"])
	eventually(t, 30*time.Second, "all is done", func() bool { return d.of("next") == 1 && r.empty() })
	drain()
	if d.total() != 3 {
		t.Errorf("got %v delivered", d.bodies())
	}
	r.expectEmpty()
}

// What is under way when its group vanishes is pending to nobody, and may be ended
// by who has it.
func TestEndWithoutAGroup(t *testing.T) {
	t.Parallel()
	for _, outcome := range []Outcome{Done, Retry, Dead, Release} {
		t.Run(fmt.Sprint(outcome), func(t *testing.T) {
			r := newRig(t, 1, Options{})
			r.enqueue(&Message{Body: []byte("plain")}, &Message{Body: []byte("tracked"), Track: true})
			begun, goOn := make(chan struct{}, 2), make(chan struct{})
			d := newDiary()
			w, drain := run(t, r.c, WorkerOptions{}, func(_ context.Context, m *Delivery) Result {
				d.note(m)
				if d.of(string(m.Body)) > 1 {
					return Result{Outcome: Done}
				}
				begun <- struct{}{}
				<-goOn
				return Result{Outcome: outcome}
			})
			<-begun
			<-begun
			if err := r.c.SetPaused(t.Context(), true); err != nil { // so that nobody makes it again
				t.Fatal(err)
			}
			time.Sleep(blockFor + 100*time.Millisecond)
			key := r.c.partitions[0].keys.stream("")
			r.raw().XGroupDestroy(t.Context(), key, group)
			close(goOn)
			eventually(t, 30*time.Second, "both are ended", func() bool { return len(w.sources[0].heldFor(0)) == 0 })
			if n := r.raw().XLen(t.Context(), key).Val(); n != 0 && (outcome == Done || outcome == Dead) {
				t.Errorf("got %d entries, want none", n)
			}
			if err := r.c.SetPaused(t.Context(), false); err != nil {
				t.Fatal(err)
			}
			eventually(t, 30*time.Second, "all is done", r.empty)
			drain()
			if want := map[Outcome]int{Done: 2, Retry: 4, Dead: 2, Release: 4}[outcome]; d.total() != want {
				t.Errorf("got %d deliveries, want %d", d.total(), want)
			}
		})
	}
}

// What is under way and pending to nobody, though there is a group (an operator
// acked it, or moved the group on), is ended by who has it: nobody else does.
func TestEndOfWhatIsPendingToNobody(t *testing.T) {
	t.Parallel()
	for _, outcome := range []Outcome{Done, Retry, Dead} {
		t.Run(fmt.Sprint(outcome), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, 1, Options{Visibility: time.Second})
			r.enqueue(&Message{Body: []byte("plain")}, &Message{Body: []byte("tracked"), Track: true}, &Message{Body: []byte("ordered"), OrderKey: "k"})
			var begun atomic.Int64
			goOn := make(chan struct{})
			d, seen := newDiary(), &watcher{}
			_, drain := run(t, r.c, WorkerOptions{Observe: seen}, func(_ context.Context, m *Delivery) Result {
				d.note(m)
				begun.Add(1)
				<-goOn
				if m.Attempt > 1 {
					return Result{Outcome: Done}
				}
				return Result{Outcome: outcome}
			})
			eventually(t, 30*time.Second, "all are under way", func() bool { return begun.Load() == 3 })
			ctx, key := t.Context(), r.c.partitions[0].keys.stream("")
			for _, e := range r.raw().XRange(ctx, key, "-", "+").Val() {
				r.raw().XAck(ctx, key, group, e.ID)
			}
			if n := r.raw().XPending(ctx, key, group).Val().Count; n != 0 {
				t.Fatalf("%d are pending", n)
			}
			time.Sleep(1500 * time.Millisecond) // they are renewed, which finds nobody who has them
			close(goOn)
			eventually(t, 30*time.Second, "all are ended", func() bool {
				return r.empty() && r.raw().XLen(ctx, key).Val() == 0
			})
			drain()
			if want := map[Outcome]int{Done: 3, Retry: 6, Dead: 3}[outcome]; d.total() != want || seen.losses() > 0 {
				t.Errorf("got %d deliveries, want %d; %d lost", d.total(), want, seen.losses())
			}
			if n := r.raw().ZCard(ctx, r.c.partitions[0].keys.dead()).Val(); (n == 3) != (outcome == Dead) {
				t.Errorf("%d dead letters", n)
			}
		})
	}
}

func TestGarbageInTheStream(t *testing.T) {
	r := newRig(t, 1, Options{})
	ctx, raw, k := context.Background(), r.raw(), r.c.partitions[0].keys
	torn := "\x89BIN\r\n\x1a\n\x00\x01\x00\x00\x00\x12\x00\x00\xff\xff\x00\x01"
	add := func(key string, args ...any) {
		if err := raw.Do(ctx, append([]any{"XADD", key, "*"}, args...)...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	add(k.stream(""), "i", "torn", dataField, torn)
	add(k.stream(""), "i", "number", "a", "many", dataField, "body")
	add(k.stream(""), "i", "chunks", "n", "99999999999999999999", dataField, "body")
	add(k.stream(""), "i", "negative", "x", "-5", dataField, "body")
	add(k.stream(""), "name", "order", "total", "7") // another program's: no garbage
	add(k.stream(""), dataField, "just a body")
	raw.ZAdd(ctx, k.delayed(), z(1, "no record"))
	raw.ZAdd(ctx, k.delayed(), z(2, "of another type"))
	raw.ZAdd(ctx, k.delayed(), z(-1, "due before all times")) // what is due after it is not held up
	raw.Set(ctx, k.record("of another type"), "x", time.Hour)
	r.enqueueN(1, "good")
	d := newDiary()
	_, drain := run(t, r.c, WorkerOptions{Attempts: 2}, d.done)
	eventually(t, 30*time.Second, "all is taken", func() bool { return r.empty() && d.total() >= 3 })
	drain()
	if d.of("good0") != 1 || d.of(`{"name":"order","total":"7"}`) != 1 || d.of("just a body") != 1 || d.total() != 3 {
		t.Errorf("got %v delivered", d.bodies())
	}
	for _, m := range d.deliveries() {
		if m.ID == "" || m.Attempt != 1 {
			t.Errorf("got delivery %+v", m)
		}
	}
	dead, _, err := r.c.Dead(t.Context(), 10, "")
	if err != nil || len(dead) != 4 {
		t.Fatalf("got dead letters %v, %v, want 4", dead, err)
	}
	for _, i := range dead {
		if i.Reason == "" || !strings.Contains("torn number chunks negative", i.ID) {
			t.Errorf("got dead letter %+v", i)
		}
		if i.ID == "torn" && string(i.Body) != torn {
			t.Errorf("the torn one has lost its bytes: %q", i.Body)
		}
	}
	if n, err := r.c.Drop(t.Context(), []string{"torn", "number", "chunks", "negative"}, nil); n != 4 || err != nil {
		t.Errorf("dropping: got %d, %v", n, err)
	}
	r.expectEmpty()
}

// fill makes the first server full: nothing that needs memory is taken.
func (r *rig) fill() {
	r.t.Helper()
	if err := r.raw().ConfigSet(context.Background(), "maxmemory", "1").Err(); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) unfill() {
	r.t.Helper()
	if err := r.raw().ConfigSet(context.Background(), "maxmemory", "0").Err(); err != nil {
		r.t.Fatal(err)
	}
}

func TestFullNodeDrains(t *testing.T) {
	r := newRig(t, 1, Options{})
	r.enqueueN(50, "m")
	for i := range 30 {
		r.enqueue(
			&Message{OrderKey: fmt.Sprint(i % 3), Body: fmt.Append(nil, "ordered", i)},
			&Message{Track: true, Body: fmt.Append(nil, "tracked", i)},
			&Message{Delay: 300 * time.Millisecond, Body: fmt.Append(nil, "delayed", i)})
	}
	r.fill() // no worker was ever here: even the group is to be made
	if _, err := r.c.Enqueue(t.Context(), &Message{Body: []byte("too much")}); err == nil {
		t.Fatal("the server is not full")
	}
	d := newDiary()
	_, drain := run(t, r.c, WorkerOptions{}, d.done)
	eventually(t, 30*time.Second, "it is drained", func() bool { return r.empty() && d.distinct() == 140 })
	drain()
	if d.total() != 140 {
		t.Errorf("got %d deliveries, want 140", d.total())
	}
	r.expectEmpty()
}

func TestRetryOnAFullNodeStays(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, Options{Visibility: time.Second})
	r.enqueue(&Message{Body: []byte("retry")}, &Message{Body: []byte("dead")})
	r.fill()
	d, seen := newDiary(), &watcher{}
	_, drain := run(t, r.c, WorkerOptions{Observe: seen, Attempts: 20}, func(_ context.Context, m *Delivery) Result {
		d.note(m)
		if string(m.Body) == "dead" {
			return Result{Outcome: Dead, Reason: "for good"}
		}
		if d.of("retry") < 3 {
			return Result{Outcome: Retry}
		}
		return Result{Outcome: Done}
	})
	eventually(t, 30*time.Second, "the third attempt", func() bool { return d.of("retry") == 3 && d.of("dead") >= 2 })
	if all := seen.others(); len(seen.others("OOM")) > 0 || len(all) < 3 {
		t.Errorf("got troubles %v", all)
	}
	r.unfill()
	eventually(t, 30*time.Second, "a dead letter", func() bool {
		dead, _, _ := r.c.Dead(t.Context(), 10, "")
		return len(dead) == 1 && r.empty()
	})
	drain()
	for _, m := range d.deliveries() {
		if string(m.Body) == "retry" && m.Attempt > 3 {
			t.Errorf("got attempt %d of three", m.Attempt)
		}
	}
	if _, err := r.c.Drop(t.Context(), nil, nil); err != nil {
		t.Fatal(err)
	}
	r.expectEmpty()
}

// One node that stands still, or is gone, slows nobody else.
func TestOtherNodesGoOn(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3, Options{Visibility: time.Second})
	d := newDiary()
	_, drain := run(t, r.c, WorkerOptions{Concurrency: 4}, d.done)
	r.enqueueN(30, "before")
	eventually(t, 30*time.Second, "all before", func() bool { return d.distinct() == 30 && r.empty() })
	r.servers[0].Pause()
	r.servers[1].Kill()
	begin := time.Now()
	for i := range 200 {
		eventually(t, 30*time.Second, "it is in", func() bool {
			_, err := r.c.Enqueue(t.Context(), &Message{Body: fmt.Append(nil, "during", i)})
			return err == nil
		})
	}
	eventually(t, 30*time.Second, "all during", func() bool { return d.distinct() == 230 })
	if took := time.Since(begin); took > 8*time.Second {
		t.Errorf("200 messages took %v with two nodes away", took)
	}
	r.servers[0].Resume()
	r.servers[1].Restart()
	for i := range r.c.partitions {
		back := &Message{ID: fmt.Sprint("back", i), Body: fmt.Append(nil, "back", i)}
		p := r.c.partitions[i]
		eventually(t, 30*time.Second, "the node is used again", func() bool {
			return p.client().Do(t.Context(), "XADD", p.keys.stream(""), "*", "i", back.ID, dataField, back.Body).Err() == nil
		})
		eventually(t, 30*time.Second, "the node is read again", func() bool { return d.of(string(back.Body)) >= 1 })
	}
	eventually(t, 30*time.Second, "all is done", r.empty)
	drain()
	r.expectEmpty()
}

// What was done while its node was away is recorded when it is back, and not
// done again.
func TestDoneWhileTheNodeWasAway(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, Options{Visibility: time.Second})
	r.enqueueN(20, "m")
	d := newDiary()
	begun, goOn := make(chan struct{}, 20), make(chan struct{})
	_, drain := run(t, r.c, WorkerOptions{Concurrency: 20}, func(_ context.Context, m *Delivery) Result {
		begun <- struct{}{}
		<-goOn
		d.note(m)
		return Result{Outcome: Done}
	})
	for range 20 {
		<-begun
	}
	r.servers[0].Pause()
	close(goOn)
	time.Sleep(2500 * time.Millisecond) // longer than the visibility
	r.servers[0].Resume()
	eventually(t, 30*time.Second, "all is recorded", r.empty)
	drain()
	if d.total() != 20 {
		t.Errorf("got %d deliveries, want 20", d.total())
	}
	r.expectEmpty()
}
