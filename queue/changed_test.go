package queue

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// change has another server in the place of the first one: it has a message of its own,
// with this name, where the other had one. taker is the consumer that has it; empty: nobody.
func (r *rig) change(entryID, name, taker string) {
	r.t.Helper()
	ctx, key := context.Background(), r.c.partitions[0].keys.stream("")
	frame, err := appendFrame(nil, map[string]string{}, []byte(name))
	if err != nil {
		r.t.Fatal(err)
	}
	tx := r.raw().TxPipeline()
	tx.Del(ctx, key)
	tx.XAdd(ctx, &redis.XAddArgs{Stream: key, ID: entryID, Values: []any{"i", name, dataField, frame}})
	tx.XGroupCreate(ctx, key, group, "0")
	if taker != "" {
		tx.XReadGroup(ctx, &redis.XReadGroupArgs{Group: group, Consumer: taker, Streams: []string{key, ">"}, Block: -1})
	}
	if _, err := tx.Exec(ctx); err != nil {
		r.t.Fatal(err)
	}
}

// Two servers have changed places, by their names' addresses, say, while a message of one
// is under way: what comes of it does nothing to a message of the other whose entry has
// the same id.
func TestServersThatChangePlaces(t *testing.T) {
	t.Parallel()
	results := map[string]Result{"done": {}, "tried again": {Outcome: Retry}, "dead": {Outcome: Dead}}
	for name, result := range results {
		for _, of := range []string{"", "mine"} { // a plain one, one with a record
			for _, has := range []string{"nobody has it", "this worker has it on another node", "it is taken meanwhile"} {
				t.Run(name+" "+of+" "+has, func(t *testing.T) {
					t.Parallel()
					r := newPatientRig(t, 10*time.Second, 1, Options{Visibility: time.Second})
					r.enqueue(&Message{ID: of, Body: []byte("first")})
					d := newDiary()
					begun, goOn := make(chan struct{}, 100), make(chan struct{})
					tries := 0
					o := WorkerOptions{Concurrency: 1}
					if has == "it is taken meanwhile" {
						o.Concurrency = 2
					}
					w, drain := run(t, r.c, o, func(ctx context.Context, m *Delivery) Result {
						if string(m.Body) == "first" {
							begun <- struct{}{}
							select {
							case <-goOn:
							case <-ctx.Done(): // the other one does not come
							}
							return result
						}
						if tries++; tries == 1 && o.Concurrency > 1 {
							close(goOn)
							sleep(ctx, 300*time.Millisecond) // what came of the first is recorded
							return Result{Outcome: Retry}
						}
						return d.done(ctx, m)
					})
					defer drain()
					<-begun
					id := r.raw().XRange(t.Context(), r.c.partitions[0].keys.stream(""), "-", "+").Val()[0].ID
					taker := ""
					if has == "this worker has it on another node" {
						taker = w.name + "-1"
					}
					r.change(id, "second", taker)
					if o.Concurrency == 1 {
						close(goOn)
					}
					eventually(t, 20*time.Second, "the other one is delivered", func() bool { return d.of("second") == 1 })
				})
			}
		}
	}
}

// What a producer of its own puts in with two ids has the later one, and is tried and buried
// as anything else.
func TestEntryWithTwoIDs(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, Options{Visibility: time.Second})
	w := &watcher{}
	_, drain := run(t, r.c, WorkerOptions{Attempts: 2, Observe: w}, func(context.Context, *Delivery) Result { return Result{} })
	defer drain()
	frame, err := appendFrame(nil, map[string]string{}, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	r.raw().XAdd(t.Context(), &redis.XAddArgs{Stream: r.c.partitions[0].keys.stream(""), Values: []any{"i", "a", "i", "b", dataField, frame}})
	eventually(t, 10*time.Second, "it is a dead letter", func() bool { return w.count(stateDead) == 1 && r.empty() })
	if n := w.losses(); n > 0 {
		t.Errorf("it was taken for lost %d times", n)
	}
}
