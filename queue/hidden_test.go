package queue

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"
)

// What is refused is found among all that waits for its order key.
func TestTakeOutOfWhatWaits(t *testing.T) {
	for _, behind := range []int{0, 1, 48, 49, 50, 99, 100, 119} {
		t.Run(fmt.Sprint(behind), func(t *testing.T) {
			t.Parallel()
			const all = 120
			r := newRig(t, 1, Options{})
			for i := range all + 1 { // the first one is ready
				m := &Message{OrderKey: "k", Body: fmt.Append(nil, i)}
				if i == all-behind {
					m.ID = "refused"
				}
				r.enqueue(m)
			}
			parcel, err := r.c.pack(&Message{ID: "refused", OrderKey: "k", Body: fmt.Append(nil, all-behind)})
			if err != nil {
				t.Fatal(err)
			}
			on := r.c.partitions[0]
			parcel.partition = on
			call := (&sending{hidden: r.c.hiddenOf(parcel)}).takeOutCall(on)
			if n, err := call.script.run(t.Context(), on, call.keys, call.args...).Int(); n != 1 || err != nil {
				t.Fatalf("got %d, %v, want 1", n, err)
			}
			d := newDiary()
			_, drain := run(t, r.c, WorkerOptions{}, d.done)
			eventually(t, 20*time.Second, "the others are done", r.empty)
			drain()
			if got := d.bodies(); len(got) != all || slices.Contains(got, fmt.Sprint(all-behind)) || !slices.IsSortedFunc(got, byNumber) {
				t.Errorf("got %q", got)
			}
			r.expectEmpty()
		})
	}
}

func byNumber(a, b string) int {
	x, _ := strconv.Atoi(a)
	y, _ := strconv.Atoi(b)
	return cmp.Compare(x, y)
}

// What waits for its order key is shown when it is durable, wherever it is in a batch:
// it is delivered when its turn comes, and not when it would show itself.
func TestShowOfWhatWaits(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, Options{Ack: Ack{Replicas: 1}})
	follow(t, r.servers[0])
	const all = 300
	var messages []*Message
	for i := range all {
		messages = append(messages, &Message{OrderKey: fmt.Sprint(i % 7 % 2), Body: fmt.Append(nil, i)})
	}
	eventually(t, 30*time.Second, "one is accepted", func() bool {
		_, err := r.c.Enqueue(t.Context(), &Message{Body: []byte("0"), OrderKey: "other"})
		return err == nil
	})
	accepted := 0
	eventually(t, 60*time.Second, "the replica keeps pace", func() bool {
		receipts, err := r.c.EnqueueBatch(t.Context(), messages)
		for _, receipt := range receipts {
			if receipt.Err == nil {
				accepted++
			}
		}
		return err == nil
	})
	waiting := r.c.partitions[0].keys
	for _, key := range []string{"0", "1"} {
		for i, packed := range r.raw().LRange(t.Context(), waiting.order(orderHash("", key)), 0, -1).Val() {
			entry, err := r.raw().Eval(t.Context(), "return cmsgpack.unpack(ARGV[1])[8]", nil, packed).Text()
			if err != nil || entry != dataField {
				t.Errorf("entry %d of %s: got %q, %v behind its order, want %q", i, key, entry, err, dataField)
			}
		}
	}
	d := newDiary()
	_, drain := run(t, r.c, WorkerOptions{}, d.done)
	eventually(t, 30*time.Second, "all are done", func() bool { return d.total() >= accepted && r.empty() })
	drain()
}
