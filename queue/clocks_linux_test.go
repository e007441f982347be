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

// startAtClocks starts servers whose clocks are so far from this process's: as this
// one's is from theirs.
func startAtClocks(t *testing.T, shifts ...time.Duration) (servers []*redistest.Server) {
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
	for i, shift := range shifts {
		script := filepath.Join(dir, fmt.Sprint("server", i))
		text := fmt.Sprintf("#!/bin/sh\nLD_PRELOAD='%s' CLOCK_SHIFT=%d exec '%s' \"$@\"\n", library, int(shift.Seconds()), program)
		if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
		t.Setenv("FLUSTER_REDIS_SERVER", script)
		s := redistest.Start(t)
		now, err := s.Client(t).Time(t.Context()).Result()
		if off := now.Sub(time.Now().Add(shift)); err != nil || off < -time.Minute || off > time.Minute {
			t.Fatalf("its clock shows %v, want %v from now: %v", now, shift, err)
		}
		servers = append(servers, s)
	}
	return servers
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
		if told := time.Since(m.AcceptedAt); told > age+2*time.Second || told < -time.Second {
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
	start := time.Now()
	options := WorkerOptions{Rate: 2000, BackoffFirst: 10 * time.Millisecond, BackoffLongest: 10 * time.Millisecond}
	_, drain := run(t, r.c, options, deliver)
	_, drainOther := run(t, r.client(), options, deliver)
	eventually(t, 20*time.Second, "all are delivered", func() bool { return d.distinct() == 5*n && r.empty() })
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
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
