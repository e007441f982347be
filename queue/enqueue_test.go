package queue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
)

// entries returns what lies in a lane on all servers.
func (r *rig) entries(lane string) (out []entry) {
	r.t.Helper()
	for _, s := range r.servers {
		all, err := s.Client(r.t).XRange(context.Background(), r.c.partitions[0].keys.stream(lane), "-", "+").Result()
		if err != nil {
			r.t.Fatal(err)
		}
		for _, m := range all {
			e, err := parseEntry(m.Values)
			if err != nil {
				r.t.Fatal(err)
			}
			out = append(out, e)
		}
	}
	return out
}

// body returns the body in a frame.
func bodyOf(t testing.TB, frame []byte) string {
	t.Helper()
	_, body, err := parseFrame(frame)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestEnqueueKeepsHeaderAndBodyByteForByte(t *testing.T) {
	r := newRig(t, 1, Options{})
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	want := map[string]*Message{}
	for i := range 50 {
		body := make([]byte, random.IntN(2000)*random.IntN(2))
		for j := range body {
			body[j] = byte(random.Uint32())
		}
		m := &Message{Header: map[string]string{"x-fluster-uri": "/é?\x00=\n", "n": fmt.Sprint(i), "content-type": ""}, Body: body}
		if i%3 == 0 {
			m.Expire = time.Hour // by the script
		}
		want[r.enqueue(m)[0].ID] = m
	}
	seen := newDiary()
	_, drain := run(t, r.c, WorkerOptions{}, seen.done)
	eventually(t, 30*time.Second, "all delivered", func() bool { return seen.total() == len(want) })
	drain()
	for _, d := range seen.deliveries() {
		m := want[d.ID]
		if m == nil {
			t.Fatalf("delivery %s was never put in", d.ID)
		}
		header := maps.Clone(m.Header)
		header["correlation_id"], header["message_id"] = d.ID, d.ID
		if diff := cmp.Diff(header, d.Header); diff != "" {
			t.Errorf("header (-want +got):\n%s", diff)
		}
		body, err := io.ReadAll(d.Open())
		if err != nil || !bytes.Equal(body, m.Body) || d.Size != int64(len(m.Body)) {
			t.Errorf("got body of %d bytes, size %d, %v, want %d bytes", len(body), d.Size, err, len(m.Body))
		}
	}
	r.expectEmpty()
}

func TestEnqueueKeepsTheProducersOwnNames(t *testing.T) {
	r := newRig(t, 1, Options{})
	r.enqueue(&Message{Header: map[string]string{"correlation_id": "c", "reply_to": "inbox"}})
	header, _, err := parseFrame(r.entries("")[0].frame)
	if err != nil {
		t.Fatal(err)
	}
	if header["correlation_id"] != "c" || header["reply_to"] != "inbox" || len(header["message_id"]) != 26 {
		t.Errorf("got header %q", header)
	}
}

func TestEnqueueWritesWhatTheLayoutSays(t *testing.T) {
	r := newRig(t, 1, Options{Classes: []Class{{"high", 3}}, Backlog: Backlog{Bytes: 1 << 20}})
	client, k := r.raw(), r.c.partitions[0].keys
	clock := func() int64 {
		now, err := client.Time(t.Context()).Result()
		if err != nil {
			t.Fatal(err)
		}
		return now.UnixMilli()
	}
	near := func(what string, got, want int64) {
		t.Helper()
		if got < want-2000 || got > want+2000 {
			t.Errorf("%s: got %d, want about %d", what, got, want)
		}
	}
	r.enqueue(&Message{ID: "tracked", Body: []byte("b"), Class: "high", Expire: time.Hour})
	e := r.entries("/high")[0]
	near("expiry", e.expires, clock()+3600_000)
	if e.id != "tracked" || !e.tracked || e.counted != int64(len(e.frame)) || bodyOf(t, e.frame) != "b" {
		t.Errorf("got entry %+v", e)
	}
	rec, err := parseRecord(client.HGetAll(t.Context(), k.record("tracked")).Val())
	if err != nil || rec.state != stateReady || rec.lane != "/high" || rec.queued == "" || rec.digest == "" || rec.frame != nil {
		t.Errorf("got record %+v, %v", rec, err)
	}

	r.enqueue(&Message{ID: "delayed", Class: "no such class", Delay: time.Minute, Expire: time.Hour})
	rec, err = parseRecord(client.HGetAll(t.Context(), k.record("delayed")).Val())
	if err != nil || rec.state != stateDelayed || rec.lane != "" || rec.queued != "" || rec.frame == nil || rec.expires == 0 {
		t.Errorf("got record %+v, %v", rec, err)
	}
	near("acceptance", rec.accepted, clock())
	near("due", int64(client.ZScore(t.Context(), k.delayed(), "delayed").Val()), clock()+60_000)

	// Of two with one order key the second waits, and so does one with another class.
	r.enqueue(&Message{OrderKey: "o", Body: []byte("1")}, &Message{OrderKey: "o", Body: []byte("2")},
		&Message{OrderKey: "o", Body: []byte("3"), Class: "high", Delay: time.Minute})
	order := orderHash("", "o")
	if n := client.HGet(t.Context(), k.orders(), order).Val(); n != "1" {
		t.Errorf("%s of the order key are counted, want 1", n)
	}
	waiting := client.LRange(t.Context(), k.order(order), 0, -1).Val()
	if len(waiting) != 2 {
		t.Fatalf("%d wait, want 2", len(waiting))
	}
	for i, packed := range waiting {
		all, err := client.Eval(t.Context(), "return cmsgpack.unpack(ARGV[1])", nil, packed).StringSlice()
		if err != nil {
			t.Fatal(err)
		}
		values := map[string]any{}
		for j := 1; j < len(all); j += 2 {
			values[all[j]] = all[j+1]
		}
		e, err := parseEntry(values)
		if err != nil {
			t.Fatal(err)
		}
		if lane := []string{"", "/high"}[i]; all[0] != lane || e.order != order || bodyOf(t, e.frame) != fmt.Sprint(i+2) {
			t.Errorf("%d waits for lane %q as %+v", i, all[0], e)
		}
		if near("acceptance", e.accepted, clock()); i == 1 {
			near("not before", e.notBefore, clock()+60_000)
		}
	}
	counters := client.HGetAll(t.Context(), k.counters()).Val()
	if counters["w"] != "2" || counters["b"] == "" {
		t.Errorf("got counters %v, want w = 2 and b", counters)
	}
}

func TestEnqueueForSeveralDestinationsIsOneStep(t *testing.T) {
	r := newRig(t, 1, Options{Destinations: []string{"mail", "log"}, Classes: []Class{{"high", 2}}})
	receipt := r.enqueue(&Message{Body: []byte("x"), Class: "high", OrderKey: "o"}, &Message{OrderKey: "o"})[0]
	for _, lane := range []string{"mail/high", "log/high"} {
		got := r.entries(lane)
		if len(got) != 1 || got[0].id != receipt.ID || bodyOf(t, got[0].frame) != "x" {
			t.Errorf("lane %s has %+v", lane, got)
		}
	}
	// What waits for one destination does not wait for the other.
	var seen []*diary
	for _, destination := range []string{"mail", "log"} {
		d := newDiary()
		seen = append(seen, d)
		run(t, r.c, WorkerOptions{Destination: destination}, d.done)
	}
	eventually(t, 30*time.Second, "both are delivered to both", func() bool { return seen[0].total() == 2 && seen[1].total() == 2 })
}

func TestEnqueueRefusesWhatItCannotKeep(t *testing.T) {
	r := newRig(t, 1, Options{MaxBody: 10})
	tests := map[string]struct {
		m    *Message
		want error
	}{
		"a body, one too long":   {&Message{Body: make([]byte, 11)}, ErrTooLarge},
		"a reader, one too long": {&Message{Reader: strings.NewReader("12345678901")}, ErrTooLarge},
		"a header no UTF-8":      {&Message{Header: map[string]string{"a": "\xff"}}, ErrMessage},
		"an id too long":         {&Message{ID: strings.Repeat("x", maxID+1)}, ErrMessage},
		"an id no UTF-8":         {&Message{ID: "\xff"}, ErrMessage},
		"a negative delay":       {&Message{Delay: -1}, ErrMessage},
		"a broken reader":        {&Message{Reader: io.MultiReader(strings.NewReader("1"), brokenReader{})}, errBroken},
	}
	for name, test := range tests {
		receipt, err := r.c.Enqueue(t.Context(), test.m)
		if !errors.Is(err, test.want) || !errors.Is(receipt.Err, test.want) {
			t.Errorf("%s: got %v, want %v", name, err, test.want)
		}
	}
	if keys := r.keys(); len(keys) > 0 {
		t.Errorf("there is %q, want nothing", keys)
	}
	r.enqueue(&Message{Body: make([]byte, 10)}, &Message{Reader: strings.NewReader("1234567890")})
}

var errBroken = errors.New("broken on purpose")

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errBroken }

func TestEnqueueAfterScriptFlush(t *testing.T) {
	r := newRig(t, 1, Options{})
	for range 3 {
		r.enqueue(&Message{Expire: time.Hour})
		if err := r.raw().ScriptFlush(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
	}
	receipts, err := r.c.EnqueueBatch(t.Context(), []*Message{{Expire: time.Hour}, {Expire: time.Hour}})
	if err != nil || len(receipts) != 2 {
		t.Fatal(receipts, err)
	}
	if n := len(r.entries("")); n != 5 {
		t.Errorf("%d entries, want 5", n)
	}
}

func TestEnqueueBatch(t *testing.T) {
	r := newPatientRig(t, time.Second, 3, Options{InlineBody: 100})
	var ms []*Message
	for i := range 1500 {
		m := &Message{Body: fmt.Appendf(nil, "%d", i)}
		switch i % 5 {
		case 1:
			m.OrderKey = fmt.Sprint(i % 7)
			if i%3 == 0 { // in chunks, and in its turn all the same
				m.Body = append(m.Body, bytes.Repeat([]byte(" "), 200)...)
			}
		case 2:
			m.DedupKey, m.DedupWindow, m.Body = fmt.Sprint("d", i%20), time.Hour, []byte("same")
		case 3:
			m.Reader, m.Body = bytes.NewReader(fmt.Appendf(nil, "r%0*d", 1+i%200, i)), nil
		}
		ms = append(ms, m)
	}
	ms = append(ms, &Message{Delay: -1}, &Message{Reader: brokenReader{}})
	receipts, err := r.c.EnqueueBatch(t.Context(), ms)
	if !errors.Is(err, ErrMessage) || !errors.Is(receipts[1500].Err, ErrMessage) || !errors.Is(receipts[1501].Err, errBroken) {
		t.Fatalf("got %v; %v and %v, want that of the first that is wrong", err, receipts[1500].Err, receipts[1501].Err)
	}
	ids, nodes, replayed := map[string]bool{}, map[string]int{}, 0
	for i, receipt := range receipts[:1500] {
		if receipt.Err != nil {
			t.Fatalf("message %d: %v", i, receipt.Err)
		}
		if receipt.Replayed {
			replayed++
			continue
		}
		if ids[receipt.ID] {
			t.Fatalf("id %s twice", receipt.ID)
		}
		ids[receipt.ID] = true
		nodes[receipt.Node]++
	}
	if replayed != 300-4 {
		t.Errorf("%d are replayed, want 296 of 300 with 4 keys", replayed)
	}
	if len(nodes) != 3 {
		t.Errorf("they are on %v, want three nodes", nodes)
	}
	seen := newDiary()
	_, drain := run(t, r.c, WorkerOptions{Concurrency: 8}, seen.done)
	eventually(t, 20*time.Second, "all delivered", func() bool { return seen.total() == len(ids) })
	drain()
	byKey := map[string][]int{}
	for _, body := range seen.bodies() {
		var i int
		if _, err := fmt.Sscan(body, &i); err == nil && i%5 == 1 {
			byKey[ms[i].OrderKey] = append(byKey[ms[i].OrderKey], i)
		}
	}
	for key, got := range byKey {
		if !slices.IsSorted(got) {
			t.Errorf("order key %s: delivered as %v", key, got)
		}
	}
	r.expectEmpty()
}

func TestEnqueueThroughOtherEyes(t *testing.T) {
	// What redis-cli shows of a plain message: two fields, FastStream's the last.
	r := newRig(t, 1, Options{Namespace: "ns"})
	receipt := r.enqueue(&Message{Header: map[string]string{"content-type": "text/plain"}, Body: []byte("hi")})[0]
	got, err := r.raw().Do(t.Context(), "XRANGE", "{ns:q:q:0}:s", "-", "+").Slice()
	if err != nil || len(got) != 1 {
		t.Fatal(got, err)
	}
	fields := got[0].([]any)[1].([]any)
	if len(fields) != 4 || fields[0] != "i" || fields[1] != receipt.ID || fields[2] != "__data__" {
		t.Errorf("got fields %q", fields)
	}
}

// A service on FastStream that starts later makes its group at the end of the stream, if it
// is not there. Where it takes the queue's group, it gets what was put in before.
func TestEnqueueMakesTheGroupForOthers(t *testing.T) {
	for _, name := range []string{"plain", "named"} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 1, Options{})
			m := &Message{Body: []byte("early")}
			if name == "named" {
				m.ID = "chosen"
			}
			r.enqueue(m)
			ctx, key := t.Context(), r.c.partitions[0].keys.stream("")
			if err := r.raw().XGroupCreateMkStream(ctx, key, "fluster", "$").Err(); !redis.HasErrorPrefix(err, "BUSYGROUP") {
				t.Errorf("making the group: got %v, want that it is there", err)
			}
			got, err := r.raw().XReadGroup(ctx, &redis.XReadGroupArgs{Group: "fluster", Consumer: "service", Streams: []string{key, ">"}, Block: -1}).Result()
			if err != nil || len(got) != 1 || len(got[0].Messages) != 1 {
				t.Errorf("got %v, %v, want the message", got, err)
			}
		})
	}
}
