package queue

import (
	"cmp"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// loseReply is a hook of a client that loses the reply to the first run of a script.
type loseReply struct {
	of   luaScript
	lost *bool
}

func (l loseReply) DialHook(next redis.DialHook) redis.DialHook { return next }

func (l loseReply) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (l loseReply) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		args := cmd.Args()
		if err == nil && !*l.lost && len(args) > 1 && args[1] == l.of.script.Hash() {
			*l.lost = true
			cmd.SetErr(io.EOF)
			return io.EOF
		}
		return err
	}
}

// inOrderOf returns the servers in the order in which they are asked for a key.
func (r *rig) inOrderOf(key string) []int {
	order := make([]int, len(r.servers))
	for i := range order {
		order[i] = i
	}
	hash := r.c.hashOf(key)
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Compare(r.c.partitions[b].draw(hash), r.c.partitions[a].draw(hash))
	})
	return order
}

// A node that did not say that it has the second copy is given the message itself: the
// copy does not come back when that is done, nor without its body.
func TestCopyWhereTheFirstGoesThen(t *testing.T) {
	t.Parallel()
	for _, body := range []string{"short", strings.Repeat("large ", 100)} {
		t.Run(body[:5], func(t *testing.T) {
			t.Parallel()
			r := newPatientRig(t, 10*time.Second, 2, Options{Copies: 2, Visibility: time.Second, InlineBody: 100})
			second := r.inOrderOf("k")[1]
			p := r.c.partitions[second]
			if err := errors.Join(r.c.Check(t.Context()), putSecondScript.script.Load(t.Context(), p.client()).Err()); err != nil {
				t.Fatal(err)
			}
			lost := false
			p.client().AddHook(loseReply{putSecondScript, &lost})
			receipt := r.enqueue(&Message{OrderKey: "k", Body: []byte(body)})[0]
			if !lost || receipt.Node != p.node.Name() {
				t.Fatalf("it is on %s, and the reply was lost: %v", receipt.Node, lost)
			}
			d, w := newDiary(), &watcher{}
			_, drain := run(t, r.c, WorkerOptions{Observe: w}, d.done)
			eventually(t, 10*time.Second, "it is done", func() bool { return d.total() == 1 && r.empty() })
			time.Sleep(4 * time.Second) // were a copy left, it would come now
			drain()
			if d.total() != 1 || w.count(stateDead) != 0 {
				t.Errorf("got %d deliveries and %d dead letters, want one delivery", d.total(), w.count(stateDead))
			}
			r.expectEmpty()
		})
	}
}

// A second copy on a node that did not say in time that it has it does not come back when
// the message is done, as another one has a copy as well.
func TestCopyThatNobodyKnowsOfWhenItIsDone(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3, Options{Copies: 2, Visibility: time.Second})
	silent := r.inOrderOf("k")[1]
	// It has connections then, and knows the script.
	if err := errors.Join(r.c.Check(t.Context()), putSecondScript.script.Load(t.Context(), r.servers[silent].Client(t)).Err()); err != nil {
		t.Fatal(err)
	}
	r.servers[silent].Pause()
	r.enqueue(&Message{OrderKey: "k", Body: []byte("x")})
	r.servers[silent].Resume()
	eventually(t, 5*time.Second, "the silent node has a copy as well", func() bool { return len(r.seconds(silent)) == 1 })
	d := newDiary()
	_, drain := run(t, r.c, WorkerOptions{}, d.done)
	eventually(t, 10*time.Second, "it is done", func() bool { return d.total() == 1 && r.empty() })
	eventually(t, 15*time.Second, "no copy is left", func() bool { return len(r.seconds(silent)) == 0 && r.empty() })
	drain()
	if d.total() != 1 {
		t.Errorf("got %d deliveries, want 1", d.total())
	}
	r.expectEmpty()
}
