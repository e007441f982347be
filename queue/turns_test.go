package queue

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// What waited behind messages that somebody deletes is delivered, in order. Keys of which
// nothing is deleted keep their order meanwhile.
func TestTurnsOfWhatWasDeleted(t *testing.T) {
	deleteAll := func(ctx context.Context, raw *redis.Client, stream string) error {
		return raw.Del(ctx, stream).Err()
	}
	trim := func(ctx context.Context, raw *redis.Client, stream string) error {
		return raw.XTrimMaxLen(ctx, stream, 0).Err()
	}
	tests := []struct {
		name  string
		taken bool // a worker has the first one
		what  func(ctx context.Context, raw *redis.Client, stream string) error
	}{
		{"trimmed while it is ready", false, trim},
		{"the stream is deleted", false, deleteAll},
		{"trimmed while it is under way", true, trim},
		{"the stream is deleted under way", true, deleteAll},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, 1, Options{Visibility: time.Second})
			d := newDiary()
			begun := make(chan struct{}, 10)
			deliver := func(ctx context.Context, m *Delivery) Result {
				switch body := string(m.Body); {
				case body == "gone":
					begun <- struct{}{}
					time.Sleep(100 * time.Millisecond)
				case body == "long":
					sleep(ctx, 4*time.Second)
				case body == "later" && m.Attempt == 1 && m.LastStatus == 0:
					return Result{Outcome: Release, After: 4 * time.Second, Status: 503}
				}
				return d.done(ctx, m)
			}
			key := r.c.partitions[0].keys.stream("")
			if tt.taken {
				run(t, r.c, WorkerOptions{}, deliver)
			}
			for _, body := range []string{"gone", "second", "third"} {
				r.enqueue(&Message{OrderKey: "k", Body: []byte(body)})
			}
			if tt.taken {
				<-begun
			}
			if err := tt.what(t.Context(), r.raw(), key); err != nil {
				t.Fatal(err)
			}
			for _, body := range []string{"long", "later"} {
				r.enqueue(&Message{OrderKey: body, Body: []byte(body)}, &Message{OrderKey: body, Body: []byte("after " + body)})
			}
			r.enqueue(&Message{OrderKey: "k", Body: []byte("fourth")})
			if !tt.taken {
				run(t, r.c, WorkerOptions{}, deliver)
			}
			eventually(t, 20*time.Second, "all is done", r.empty)
			bodies := d.bodies()
			for _, order := range [][]string{{"second", "third", "fourth"}, {"long", "after long"}, {"later", "after later"}} {
				var got []string
				for _, body := range bodies {
					if slices.Contains(order, body) {
						got = append(got, body)
					}
				}
				if !slices.Equal(got, order) {
					t.Errorf("got %q, want %q", got, order)
				}
			}
		})
	}
}
