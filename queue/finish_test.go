package queue

import (
	"slices"
	"testing"

	"github.com/redis/go-redis/v9"
)

// TestAckScriptEndsWhatIsOurs: of entries that are ours, another consumer's and
// nobody's, in any mixture and with many others of ours between them. What is nobody's
// is another script's to end.
func TestAckScriptEndsWhatIsOurs(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, Options{})
	ctx, raw, p := t.Context(), r.raw(), r.c.partitions[0]
	key := p.keys.stream("")
	raw.XGroupCreateMkStream(ctx, key, group, "0")
	take := func(consumer string, n int) (ids []string) {
		for range n {
			raw.XAdd(ctx, &redis.XAddArgs{Stream: key, Values: []string{"i", "x"}})
		}
		for _, m := range raw.XReadGroup(ctx, &redis.XReadGroupArgs{Group: group, Consumer: consumer, Streams: []string{key, ">"}}).Val()[0].Messages {
			ids = append(ids, m.ID)
		}
		return ids
	}
	first, others := take("me", 2), take("other", 2)
	kept := take("me", 100) // more than the script asks for at once
	last, nobodys := take("me", 2), take("me", 1)
	raw.XAck(ctx, key, group, nobodys...)
	gone := take("me", 1)
	raw.XAck(ctx, key, group, gone...)
	raw.XDel(ctx, key, gone...)

	ids := slices.Concat(first, others, last, nobodys, gone)
	args := []any{group, "me"}
	for _, id := range ids {
		args = append(args, id)
	}
	codes, err := ackScript.run(ctx, p, []string{key}, args...).Int64Slice()
	if want := []int64{1, 1, 0, 0, 1, 1, 2, 2}; err != nil || !slices.Equal(codes, want) {
		t.Errorf("got %v, %v; want %v", codes, err, want)
	}
	left := slices.Concat(others, kept, nobodys)
	var there []string
	for _, m := range raw.XRange(ctx, key, "-", "+").Val() {
		there = append(there, m.ID)
	}
	if !slices.Equal(there, left) || raw.XPending(ctx, key, group).Val().Count != int64(len(others)+len(kept)) {
		t.Errorf("%d entries are left, want the %d that were not to end", len(there), len(left))
	}
}

func TestCompareIDs(t *testing.T) {
	t.Parallel()
	ids := []string{"9-0", "9-2", "9-10", "10-0", "1795327489759-3", "1795327489760-0", "1795327489760-11"}
	for i, a := range ids {
		for j, b := range ids {
			if got := compareIDs(a, b); got > 0 != (i > j) || got < 0 != (i < j) {
				t.Errorf("compareIDs(%s, %s) = %d", a, b, got)
			}
		}
	}
}
