package queue

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

// clocks returns a function after whose call the clocks of servers that are started,
// also again, are so far from this process's.
func clocks(t *testing.T) (set func(shift time.Duration)) {
	t.Helper()
	dir := t.TempDir()
	library := filepath.Join(dir, "clock.so")
	if out, err := exec.Command("cc", "-shared", "-fPIC", "-O1", "-o", library, "testdata/clock.c", "-ldl").CombinedOutput(); err != nil {
		t.Fatalf("a C compiler is needed (scripts/install-cc.sh): %v\n%s", err, out)
	}
	program := os.Getenv("FLUSTER_REDIS_SERVER")
	for _, name := range []string{"redis-server", "valkey-server"} {
		if path, err := exec.LookPath(name); err == nil && program == "" {
			program = path
		}
	}
	return func(shift time.Duration) {
		t.Helper()
		script := filepath.Join(dir, fmt.Sprint("server", int(shift.Seconds())))
		text := fmt.Sprintf("#!/bin/sh\nLD_PRELOAD='%s' CLOCK_SHIFT=%d exec '%s' \"$@\"\n", library, int(shift.Seconds()), program)
		if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
		t.Setenv("FLUSTER_REDIS_SERVER", script)
	}
}

// expectClock fails the test if a server's clock is not so far from this process's.
func expectClock(t *testing.T, s *redistest.Server, shift time.Duration) {
	t.Helper()
	now, err := s.Client(t).Time(t.Context()).Result()
	if off := now.Sub(time.Now().Add(shift)); err != nil || off < -time.Minute || off > time.Minute {
		t.Fatalf("its clock shows %v, want %v from now: %v", now, shift, err)
	}
}

// startAtClocks starts servers whose clocks are so far from this process's: as this
// one's is from theirs.
func startAtClocks(t *testing.T, shifts ...time.Duration) (servers []*redistest.Server) {
	t.Helper()
	set := clocks(t)
	for _, shift := range shifts {
		set(shift)
		s := redistest.Start(t)
		expectClock(t, s, shift)
		servers = append(servers, s)
	}
	return servers
}

// By which clock a message was accepted is not seen where it is told when: not by a
// worker that takes it before anything was heard of its node's clock, and not when
// another machine has come in the node's place.
func TestAcceptedAtByAnotherClock(t *testing.T) {
	set := clocks(t)
	set(-10 * time.Minute)
	r := &rig{t: t, servers: []*redistest.Server{redistest.Start(t)}}
	r.c = r.client()
	expectClock(t, r.servers[0], -10*time.Minute)
	// Nobody looks at what is due, by which the clock is heard of, too.
	r.c.partitions[0].taken.looked = time.Now().Add(time.Hour)
	var began time.Time
	d, watched := newDiary(), &watcher{}
	deliver := func(_ context.Context, m *Delivery) Result {
		age := time.Since(began)
		if told := time.Since(m.AcceptedAt); told > age+time.Minute || told < age-time.Minute {
			t.Errorf("%s: accepted %v ago, it is told, and was at most %v ago", m.Body, told, age)
		}
		d.note(m)
		return Result{Outcome: Done}
	}

	began = time.Now()
	r.enqueueN(1, "before")
	run(t, r.c, WorkerOptions{Observe: watched}, deliver)
	eventually(t, 30*time.Second, "it is delivered", func() bool { return d.of("before0") == 1 && r.empty() })

	r.servers[0].Kill()
	eventually(t, 30*time.Second, "the worker has noticed", func() bool { return len(watched.others()) > 0 })
	set(-20 * time.Minute)
	r.servers[0].Restart()
	expectClock(t, r.servers[0], -20*time.Minute)
	eventually(t, 30*time.Second, "it is taken", func() bool {
		_, err := r.c.Enqueue(t.Context(), &Message{Body: []byte("after")})
		return err == nil
	})
	eventually(t, 30*time.Second, "it is delivered", func() bool { return d.of("after") > 0 && r.empty() })
}

// A second copy that is written again, by one who has heard of neither node's clock
// yet, has the message's times by the clock of its own node.
func TestCopyAgainByAnotherClock(t *testing.T) {
	r := &rig{t: t, o: Options{Copies: 2}}
	r.servers = startAtClocks(t, -10*time.Minute, -20*time.Minute)
	r.c = r.client()
	receipt := r.enqueue(&Message{Delay: time.Minute, Expire: 5 * time.Minute})[0]
	rid := recordID(receipt.ID, "")
	r.c = r.client()
	first, second := 0, 1
	if receipt.Node == r.c.partitions[1].node.Name() {
		first, second = 1, 0
	}
	w, err := NewWorker(r.c, WorkerOptions{}, newDiary().done)
	if err != nil {
		t.Fatal(err)
	}
	on, client := r.c.partitions[second], r.servers[second].Client(t)
	if n := client.Del(t.Context(), on.keys.second(rid)).Val(); n != 1 {
		t.Fatalf("there were %d second copies, want 1", n)
	}
	if over, err := w.sources[first].copyOne(t.Context(), r.c.partitions[first].keys.delayed(), rid, on); !over || err != nil {
		t.Fatalf("got %v, %v", over, err)
	}
	var is struct {
		Accepted int64 `redis:"t"`
		Expires  int64 `redis:"x"`
	}
	if err := client.HMGet(t.Context(), on.keys.second(rid), "t", "x").Scan(&is); err != nil {
		t.Fatal(err)
	}
	now := client.Time(t.Context()).Val()
	if age := now.Sub(time.UnixMilli(is.Accepted)); age < -time.Minute || age > time.Minute {
		t.Errorf("it was accepted %v ago, it says; want just now", age)
	}
	if left := time.UnixMilli(is.Expires).Sub(now); left < 4*time.Minute || left > 6*time.Minute {
		t.Errorf("it expires in %v, want in 5m", left)
	}
}

// Clocks that are ten minutes apart, of processes and nodes and among nodes, change
// nothing: what is due, expired, overdue or visible again, and how fast all goes.
func TestClocksApart(t *testing.T) {
	r := &rig{t: t, o: Options{
		Copies: 2, Visibility: time.Second, DeadLetterAge: 5 * time.Minute,
		Backlog: Backlog{Age: time.Minute, Messages: 10_000},
	}}
	r.servers = startAtClocks(t, 10*time.Minute, 0, -10*time.Minute)
	r.c = r.client()
	const n, delay = 30, 1500 * time.Millisecond
	began := map[string]time.Time{}
	each := func(what string, m func(i int) *Message) {
		for i := range n { // over all nodes
			message := m(i)
			message.Body = fmt.Appendf(nil, "%s %d", what, i)
			began[string(message.Body)] = time.Now()
			r.enqueue(message)
		}
	}
	if err := r.c.SetPaused(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	each("now", func(int) *Message { return &Message{} })
	each("expired", func(int) *Message { return &Message{Expire: 300 * time.Millisecond} })
	each("expires", func(int) *Message { return &Message{Expire: time.Minute} })
	each("delayed", func(int) *Message { return &Message{Delay: delay} })
	each("ordered", func(i int) *Message {
		return &Message{OrderKey: fmt.Sprint("k", i%3), Expire: time.Minute, Delay: delay * time.Duration(i%2)}
	})
	each("tried again", func(int) *Message { return &Message{} })
	time.Sleep(400 * time.Millisecond)
	if err := r.c.SetPaused(t.Context(), false); err != nil {
		t.Fatal(err)
	}

	d := newDiary()
	deliver := func(_ context.Context, m *Delivery) Result {
		body := string(m.Body)
		var what string
		var i int
		fmt.Sscanf(body, "%s %d", &what, &i)
		age := time.Since(began[body])
		if told := time.Since(m.AcceptedAt); told > age+time.Minute || told < age-time.Minute {
			t.Errorf("%s: accepted %v ago, it is told, and was %v ago", body, told, age)
		}
		if (what == "delayed" || what == "ordered" && i%2 == 1) && age < delay-time.Millisecond { // the unit of the node
			t.Errorf("%s: delivered after %v", body, age)
		}
		if what == "tried" && m.Attempt == 1 {
			return Result{Outcome: Retry, After: time.Second}
		}
		d.note(m)
		return Result{Outcome: Done}
	}
	// One worker took some and died.
	for i, s := range r.servers {
		r.c.partitions[i].client().XGroupCreateMkStream(t.Context(), r.c.partitions[i].keys.stream(""), group, "0")
		s.Client(t).Do(t.Context(), "XREADGROUP", "GROUP", group, "dead", "COUNT", 5, "STREAMS", r.c.partitions[i].keys.stream(""), ">")
	}
	options := WorkerOptions{Rate: 2000, BackoffFirst: 10 * time.Millisecond, BackoffLongest: 10 * time.Millisecond}
	_, drain := run(t, r.c, options, deliver)
	_, drainOther := run(t, r.client(), options, deliver)
	eventually(t, time.Minute, "all are delivered", func() bool { return d.distinct() == 5*n && r.empty() })
	eventually(t, 30*time.Second, "no copy is left but those of dead letters", func() bool {
		left := 0
		for i := range r.servers {
			left += len(r.seconds(i))
		}
		return left == n
	})
	if twice := d.twice(); len(twice) > 0 {
		t.Errorf("more than once: %v", twice)
	}
	dead, _, err := r.c.Dead(t.Context(), 1000, "")
	if err != nil || len(dead) != n {
		t.Errorf("%d dead letters, %v; want the %d that expired", len(dead), err, n)
	}
	for _, i := range dead {
		if i.Reason != "expired" || i.Attempts != 0 {
			t.Errorf("a dead letter: %+v", i)
		}
	}
	// A node's loss is noticed no sooner and no later.
	each("copied", func(i int) *Message { return &Message{Delay: 500 * time.Millisecond, Expire: time.Minute} })
	r.servers[0].Kill()
	r.servers[0].Restart()
	eventually(t, 20*time.Second, "what a node has lost is delivered", func() bool { return d.distinct() == 6*n && r.empty() })
	eventually(t, 20*time.Second, "and its dead letters are there", func() bool {
		dead, _, err := r.c.Dead(t.Context(), 1000, "")
		return err == nil && len(dead) == n
	})
	drain()
	drainOther()
}
