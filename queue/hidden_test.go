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
