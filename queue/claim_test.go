package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// takeAway has a consumer of another process take n entries of the plain lane of
// the first server, of which nothing is heard again.
func (r *rig) takeAway(n int) (ids []string) {
	r.t.Helper()
	ctx, key := context.Background(), r.c.partitions[0].keys.stream("")
	raw := r.raw()
	raw.XGroupCreateMkStream(ctx, key, group, "0")
	streams, err := raw.XReadGroup(ctx, &redis.XReadGroupArgs{
		Group: group, Consumer: "gone", Streams: []string{key, ">"}, Count: int64(n), Block: -1,
	}).Result()
	if err != nil || len(streams[0].Messages) != n {
		r.t.Fatalf("taking %d away: %v, %v", n, streams, err)
	}
	for _, m := range streams[0].Messages {
		ids = append(ids, m.ID)
	}
	return ids
}

// claim has another consumer claim an entry, idle for as long as is said.
func (r *rig) claim(id, consumer string, idle time.Duration, args ...any) {
	r.t.Helper()
	key := r.c.partitions[0].keys.stream("")
	all := append([]any{"XCLAIM", key, group, consumer, 0, id, "IDLE", idle.Milliseconds()}, args...)
	if err := r.raw().Do(context.Background(), all...).Err(); err != nil {
		r.t.Fatalf("claiming: %v", err)
	}
}

func TestCrashedWorkerIsRelieved(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, Options{Visibility: 1500 * time.Millisecond})
	r.enqueueN(40, "m")
	begin := time.Now()
	r.takeAway(30)
	d := newDiary()
	_, drain := run(t, r.c, WorkerOptions{}, d.done)
	eventually(t, 30*time.Second, "those nobody has", func() bool { return d.distinct() == 10 })
	early := time.Since(begin) < 1500*time.Millisecond && d.distinct() > 10
	eventually(t, 30*time.Second, "those of the crashed worker", func() bool { return d.distinct() == 40 })
	if took := time.Since(begin); early || took < 1500*time.Millisecond || took > 5*time.Second {
		t.Errorf("the crashed worker's were delivered after %v, want 1.5 s to 3.5 s", took)
	}
	drain()
	if twice := d.twice(); len(twice) > 0 {
		t.Errorf("more than once: %v", twice)
	}
	for _, m := range d.deliveries() {
		if want := 1; m.Attempt != want && m.Attempt != want+1 {
			t.Errorf("got attempt %d", m.Attempt)
		}
	}
	// The crashed consumer itself is left with nothing.
	if left := r.raw().XPending(context.Background(), r.c.partitions[0].keys.stream(""), group).Val(); left != nil && left.Count > 0 {
		t.Errorf("still pending: %v", left)
	}
}

// TestUnheardAttempt: that an attempt ended without a word is told of the one after
// it, also where others have failed before.
func TestUnheardAttempt(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, Options{Visibility: time.Second})
	ctx, raw, key := context.Background(), r.raw(), r.c.partitions[0].keys.stream("")
	var mu sync.Mutex
	var got []string
	_, drain := run(t, r.c, WorkerOptions{}, func(_ context.Context, m *Delivery) Result {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, fmt.Sprintf("%d %t %s", m.Attempt, m.Unheard, m.LastError))
		switch len(got) {
		case 1:
			return Result{Outcome: Retry, Reason: "so far"}
		case 2:
			// Another worker takes it, and dies.
			for _, p := range raw.XPendingExt(ctx, &redis.XPendingExtArgs{Stream: key, Group: group, Start: "-", End: "+", Count: 2}).Val() {
				if err := raw.Do(ctx, "XCLAIM", key, group, "gone", 0, p.ID, "JUSTID").Err(); err != nil {
					t.Errorf("claiming: %v", err)
				}
			}
		}
		return Result{Outcome: Done}
	})
	r.enqueue(&Message{Body: []byte("x")})
	eventually(t, 30*time.Second, "three attempts", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(got) == 3
	})
	eventually(t, 30*time.Second, "the queue is empty", r.empty)
	drain()
	if want := []string{"1 false ", "2 false so far", "3 true so far"}; !slices.Equal(got, want) {
		t.Errorf("got attempts %q, want %q", got, want)
	}
}

func TestMessageThatKillsItsWorker(t *testing.T) {
	t.Parallel()
	const attempts = 3
	for crashes := attempts - 1; crashes <= attempts; crashes++ {
		t.Run(fmt.Sprint(crashes, " crashes"), func(t *testing.T) {
			r := newRig(t, 1, Options{Visibility: time.Second})
			r.enqueue(&Message{Body: []byte("deadly")})
			id := r.takeAway(1)[0]
			for range crashes - 1 {
				r.claim(id, "gone too", 0)
			}
			d := newDiary()
			_, drain := run(t, r.c, WorkerOptions{Attempts: attempts}, func(_ context.Context, m *Delivery) Result {
				d.note(m)
				return Result{Outcome: Retry, Reason: "so far"}
			})
			var dead []Info
			eventually(t, 30*time.Second, "a dead letter", func() bool {
				dead, _, _ = r.c.Dead(t.Context(), 10, "")
				return len(dead) == 1
			})
			drain()
			if got, want := d.total(), attempts-crashes; got != want {
				t.Errorf("got %d deliveries after %d crashes, want %d", got, crashes, want)
			}
			if dead[0].Attempts != attempts {
				t.Errorf("the dead letter says %d attempts, want %d", dead[0].Attempts, attempts)
			}
		})
	}
}

// A worker whose message another one has by now, because it stood still for
// longer than the visibility.
func TestNoAckOverAnothersHead(t *testing.T) {
	t.Parallel()
	for _, outcome := range []Outcome{Done, Retry, Dead, Release} {
		t.Run(fmt.Sprint(outcome), func(t *testing.T) {
			r := newRig(t, 1, Options{Visibility: 30 * time.Second})
			r.enqueue(&Message{Body: []byte("x"), Track: outcome == Done})
			begun, goOn := make(chan struct{}), make(chan struct{})
			seen := &watcher{}
			_, drain := run(t, r.c, WorkerOptions{Observe: seen}, func(context.Context, *Delivery) Result {
				close(begun)
				<-goOn
				return Result{Outcome: outcome}
			})
			<-begun
			key := r.c.partitions[0].keys.stream("")
			id := r.raw().XRange(t.Context(), key, "-", "+").Val()[0].ID
			r.claim(id, "the other", 0)
			close(goOn)
			eventually(t, 30*time.Second, "it is settled", func() bool { return r.c.out.gate("").slots.taken() == 0 })
			drain()
			pending := r.raw().XPendingExt(context.Background(), &redis.XPendingExtArgs{Stream: key, Group: group, Start: "-", End: "+", Count: 10}).Val()
			if len(pending) != 1 || pending[0].Consumer != "the other" {
				t.Errorf("got pending %v, want the other's", pending)
			}
			if n := r.raw().XLen(context.Background(), key).Val(); n != 1 {
				t.Errorf("got %d entries, want 1", n)
			}
			if outcome != Release && seen.losses() != 1 {
				t.Errorf("got %d told as lost, want 1", seen.losses())
			}
			if len(seen.states) > 0 {
				t.Errorf("got %v told as ended, want none", seen.states)
			}
		})
	}
}

func TestLostDeliveryIsCancelled(t *testing.T) {
	r := newRig(t, 1, Options{Visibility: time.Second})
	r.enqueue(&Message{Body: []byte("x")})
	begun, cause := make(chan struct{}), make(chan error, 1)
	_, _ = run(t, r.c, WorkerOptions{}, func(ctx context.Context, _ *Delivery) Result {
		close(begun)
		select {
		case <-ctx.Done():
		case <-time.After(10 * time.Second):
		}
		cause <- context.Cause(ctx)
		return Result{Outcome: Done}
	})
	<-begun
	key := r.c.partitions[0].keys.stream("")
	r.claim(r.raw().XRange(t.Context(), key, "-", "+").Val()[0].ID, "the other", 0)
	if err := <-cause; !errors.Is(err, ErrLost) {
		t.Errorf("got cause %v, want ErrLost", err)
	}
	r.raw().XAck(context.Background(), key, group, "x")
}

func TestSlowDeliveryIsRenewed(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, Options{Visibility: time.Second})
	r.enqueueN(5, "slow")
	var n atomic.Int32
	slow := func(context.Context, *Delivery) Result {
		n.Add(1)
		time.Sleep(3500 * time.Millisecond)
		return Result{Outcome: Done}
	}
	run(t, r.c, WorkerOptions{Concurrency: 3}, slow)
	run(t, r.client(), WorkerOptions{Concurrency: 3}, slow)
	eventually(t, 30*time.Second, "all is done", r.empty)
	if got := n.Load(); got != 5 {
		t.Errorf("got %d deliveries of 5 messages, want 5", got)
	}
}

// A worker that has a shorter visibility by now takes nothing from those that still
// have a longer one.
func TestVisibilityBecomesShorter(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, Options{Visibility: 30 * time.Second})
	d := newDiary()
	deliver := func(ctx context.Context, m *Delivery) Result {
		d.note(m)
		sleep(ctx, 5*time.Second)
		return Result{Outcome: Done}
	}
	_, drain := run(t, r.c, WorkerOptions{}, deliver)
	r.enqueueN(1, "m")
	eventually(t, 30*time.Second, "it is under way", func() bool { return d.total() == 1 })
	r.o.Visibility = 3 * time.Second
	run(t, r.client(), WorkerOptions{}, deliver)
	drain()
	if d.total() != 1 {
		t.Errorf("got %d deliveries, want 1", d.total())
	}
	r.expectEmptyButStreams()
}

// What was taken over a connection that broke is not lost for a visibility.
func TestLostReadComesBackSoon(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, Options{Visibility: 30 * time.Second})
	d := newDiary()
	w, _ := run(t, r.c, WorkerOptions{}, d.done)
	r.enqueueN(1, "first")
	eventually(t, 30*time.Second, "the first", func() bool { return d.distinct() == 1 })
	// As if the reply had got lost: this consumer took it, and does not know.
	time.Sleep(20 * time.Millisecond)
	r.raw().ClientPause(context.Background(), 0)
	key := r.c.partitions[0].keys.stream("")
	ctx := context.Background()
	tx := r.raw().TxPipeline()
	tx.Do(ctx, "XADD", key, "*", "i", "lost", dataField, "body of it")
	tx.XReadGroup(ctx, &redis.XReadGroupArgs{Group: group, Consumer: w.sources[0].name, Streams: []string{key, ">"}, Count: 1, Block: -1})
	tx.Do(ctx, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
	if _, err := tx.Exec(ctx); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, "the lost one", func() bool { return d.distinct() == 2 })
	if m := d.deliveries()[1]; m.Attempt != 1 {
		t.Errorf("got attempt %d, want 1: nobody tried it", m.Attempt)
	}
}

func TestConsumersThatAreGoneAreSwept(t *testing.T) {
	r := newRig(t, 1, Options{})
	ctx, key := context.Background(), r.c.partitions[0].keys.stream("")
	r.enqueueN(2, "m")
	id := r.takeAway(1)[0]
	r.raw().XGroupCreateConsumer(ctx, key, group, "idle")
	s := newSource(&Worker{client: r.c, name: "me"}, r.c.partitions[0])
	r.raw().XGroupCreateConsumer(ctx, key, group, "me")
	time.Sleep(20 * time.Millisecond)
	if err := sweepScript.run(ctx, s.p, s.streams(), group, 5).Err(); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range r.raw().XInfoConsumers(ctx, key, group).Val() {
		names = append(names, c.Name)
	}
	if want := []string{"gone"}; !slices.Equal(names, want) {
		t.Errorf("got consumers %v, want %v, who has %s", names, want, id)
	}
}

// What this worker has under way comes again when its group was made anew, or when
// it could not renew in time and claims it itself: that is the same delivery.
func TestHeldIsNotDeliveredAgain(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"group made anew", "claimed by itself"} {
		t.Run(how, func(t *testing.T) {
			r := newRig(t, 1, Options{Visibility: 30 * time.Second})
			r.enqueueN(1, "m")
			d := newDiary()
			begun, goOn := make(chan struct{}, 2), make(chan struct{})
			w, drain := run(t, r.c, WorkerOptions{}, func(ctx context.Context, m *Delivery) Result {
				begun <- struct{}{}
				<-goOn
				return d.done(ctx, m)
			})
			<-begun
			key := r.c.partitions[0].keys.stream("")
			id := r.raw().XRange(t.Context(), key, "-", "+").Val()[0].ID
			if how == "claimed by itself" {
				r.claim(id, w.sources[0].name, time.Hour)
			} else {
				r.raw().XGroupDestroy(t.Context(), key, group)
			}
			time.Sleep(1500 * time.Millisecond)
			pending := r.raw().XPendingExt(t.Context(), &redis.XPendingExtArgs{Stream: key, Group: group, Start: "-", End: "+", Count: 10}).Val()
			if len(pending) != 1 || pending[0].Consumer != w.sources[0].name || pending[0].Idle > time.Minute {
				t.Errorf("got pending %v, want it taken by this worker again", pending)
			}
			close(goOn)
			eventually(t, 30*time.Second, "all is done", r.empty)
			drain()
			if d.total() != 1 {
				t.Errorf("got %d deliveries, want 1", d.total())
			}
			r.expectEmpty()
		})
	}
}
