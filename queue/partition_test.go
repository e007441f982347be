package queue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/caddy-fluster/caddy-fluster/shard"
)

func TestRest(t *testing.T) {
	type step struct {
		wait time.Duration
		say  verdict // nothing: ask
		want bool    // of admit, when asked
		use  use
	}
	ask := func(wait time.Duration, want bool) step { return step{wait: wait, want: want} }
	write := func(wait time.Duration, want bool) step { return step{wait: wait, want: want, use: writing} }
	say := func(v verdict) step { return step{say: v} }
	long := restLongest + time.Millisecond
	tests := map[string][]step{
		"available at first": {ask(0, true), ask(0, true)},
		"silence rests": {
			say(silent), ask(0, false), ask(224*time.Millisecond, false), ask(77*time.Millisecond, true),
		},
		"one alone tries": {
			say(silent), ask(time.Second, true), ask(0, false), ask(probeTime-1, false), ask(1, true), ask(0, false),
		},
		"success ends it": {
			say(silent), ask(time.Second, true), say(answered), ask(0, true), ask(0, true),
		},
		"failure of the one makes it longer": {
			say(silent), ask(time.Second, true), say(silent), ask(449*time.Millisecond, false), ask(152*time.Millisecond, true),
		},
		"but not for ever": {
			say(silent), ask(long, true), say(silent), ask(long, true), say(silent), ask(long, true), say(silent), ask(long, true), say(silent), ask(1499*time.Millisecond, false), ask(502*time.Millisecond, true),
		},
		"what was under way says nothing new": {
			say(silent), say(silent), say(silent), say(silent), ask(301*time.Millisecond, true),
		},
		"a connection that ends is hardly a reason to rest": {
			say(ended), ask(7*time.Millisecond, false), ask(4*time.Millisecond, true), say(ended), ask(14*time.Millisecond, false), ask(7*time.Millisecond, true),
		},
		"a broken connection rests shortly": {
			say(broken), ask(0, false), ask(70*time.Millisecond, false), ask(31*time.Millisecond, true),
		},
		"and then longer": {
			say(broken), ask(101*time.Millisecond, true), say(broken), ask(140*time.Millisecond, false), ask(61*time.Millisecond, true),
		},
		"what takes no writes is read": {
			say(noWrites), write(0, false), ask(0, true), write(restWrites-1, false), write(1, true), write(0, true),
		},
		"a full server is there": {
			say(silent), ask(time.Second, true), say(noWrites), ask(0, true), write(0, false),
		},
	}
	for name, steps := range tests {
		t.Run(name, func(t *testing.T) {
			var r rest
			now := time.Now()
			for i, s := range steps {
				now = now.Add(s.wait)
				if s.say != nothing {
					r.report(now, s.say)
					continue
				}
				ready := r.ready(now, s.use)
				if got := r.admit(now, s.use); got != s.want || ready != got {
					t.Fatalf("step %d: admit %v, ready %v, want %v", i, got, ready, s.want)
				}
			}
		})
	}
}

func TestJudge(t *testing.T) {
	over, cancel := context.WithCancel(context.Background())
	cancel()
	tests := []struct {
		name string
		err  error
		want verdict
	}{
		{"well", nil, answered},
		{"nothing there", redis.Nil, answered},
		{"a script's error", reply("ERR user_script:1: Script attempted …"), answered},
		{"unknown script", reply("NOSCRIPT No matching script."), answered},
		{"full", reply("OOM command not allowed when used memory > 'maxmemory'."), noWrites},
		{"full, within a script before Redis 7", reply("ERR Error running script (call to f_1): @user_script:1: -OOM command not allowed"), noWrites},
		{"read-only", reply("READONLY You can't write against a read only replica."), noWrites},
		{"no replicas", reply("NOREPLICAS Not enough good replicas to write."), noWrites},
		{"disk trouble", reply("MISCONF Redis is configured to save RDB snapshots"), noWrites},
		{"loading", reply("LOADING Redis is loading the dataset in memory"), notItself},
		{"moved to and fro", reply("MOVED 1 127.0.0.1:1"), notItself},
		{"ended", io.EOF, ended},
		{"reset", &net.OpError{Op: "read", Err: syscall.ECONNRESET}, ended},
		{"refused", &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, broken},
		{"time-out", context.DeadlineExceeded, silent},
		{"nobody's", redis.ErrPoolTimeout, nothing},
	}
	for _, test := range tests {
		if got := judge(t.Context(), test.err); got != test.want {
			t.Errorf("%s: got %d, want %d", test.name, got, test.want)
		}
		if test.err != nil {
			wrapped := fmt.Errorf("doing: %w", test.err)
			if got := judge(t.Context(), wrapped); got != test.want {
				t.Errorf("%s, wrapped: got %d, want %d", test.name, got, test.want)
			}
		}
	}
	if got := judge(over, context.Canceled); got != nothing {
		t.Errorf("a caller that left: got %d, want %d", got, nothing)
	}
}

// reply is an error that a server sent.
type reply string

func (r reply) Error() string { return string(r) }
func (r reply) RedisError()   {}

// idle returns a client of partitions on nodes that nobody dials.
func idle(t *testing.T, weights ...float64) *Client {
	t.Helper()
	o := Options{Name: "q"}
	for i, weight := range weights {
		a, err := shard.ParseAddress(fmt.Sprintf("redis://127.0.0.1:1?name=n%d&weight=%v", i, weight))
		if err != nil {
			t.Fatal(err)
		}
		node, err := shard.NewNode(a, shard.Options{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { node.Close() })
		o.Partitions = append(o.Partitions, OnNodes(node)...)
	}
	c, err := NewClient(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func none(*partition) bool { return false }

func TestPickGivesEachPartitionItsShare(t *testing.T) {
	c := idle(t, 1, 1, 2)
	got := map[*partition]float64{}
	const n = 40000
	for range n {
		got[c.pick(c.hashOf(""), none)]++
	}
	for i, want := range []float64{0.25, 0.25, 0.5} {
		if share := got[c.partitions[i]] / n; math.Abs(share-want) > 0.02 {
			t.Errorf("partition %d gets %.3f of all, want %.2f", i, share, want)
		}
	}
}

func TestPickKeepsAKeyWhereItIs(t *testing.T) {
	c, other := idle(t, 1, 1, 1, 1), idle(t, 1, 1, 1, 1)
	for i := range 200 {
		key := fmt.Sprint("key", i)
		first := c.pick(c.hashOf(key), none)
		if second := other.pick(other.hashOf(key), none); second.index != first.index {
			t.Fatalf("%s: two processes pick partitions %d and %d", key, first.index, second.index)
		}
		away := (first.index + 1) % 4
		c.partitions[away].rest.report(time.Now(), silent)
		if again := c.pick(c.hashOf(key), none); again != first {
			t.Fatalf("%s: it moves because another partition rests", key)
		}
		c.partitions[away].rest = rest{}
	}
	for _, p := range c.partitions {
		p.rest.report(time.Now(), silent)
	}
	if p := c.pick(c.hashOf("key"), none); p != nil {
		t.Errorf("all rest, and partition %d is picked", p.index)
	}
}

func TestOptionsThatAreWrong(t *testing.T) {
	node := idle(t, 1).partitions[0].node
	good := Options{Name: "web.hooks_1-a", Partitions: OnCluster(node, 2)}
	if _, err := NewClient(good); err != nil {
		t.Fatal(err)
	}
	tests := map[string]func(o *Options){
		"no name":           func(o *Options) { o.Name = "" },
		"a brace":           func(o *Options) { o.Name = "a}b" },
		"a namespace":       func(o *Options) { o.Namespace = "{" },
		"no node":           func(o *Options) { o.Partitions = nil },
		"the same twice":    func(o *Options) { o.Partitions = OnNodes(node, node) },
		"nil":               func(o *Options) { o.Partitions = []Partition{{}} },
		"one has no second": func(o *Options) { o.Partitions, o.Copies = OnNodes(node), 2 },
		"three copies":      func(o *Options) { o.Copies = 3 },
		"a destination":     func(o *Options) { o.Destinations = []string{"a/b"} },
		"no name for one":   func(o *Options) { o.Destinations = []string{"", "a"} },
		"destination twice": func(o *Options) { o.Destinations = []string{"a", "a"} },
		"a class":           func(o *Options) { o.Classes = []Class{{"a/b", 1}} },
		"class twice":       func(o *Options) { o.Classes = []Class{{"a", 1}, {"a", 1}} },
		"no weight":         func(o *Options) { o.Classes = []Class{{"a", 0}} },
		"per key":           func(o *Options) { o.PerKey = -1 },
		"visibility":        func(o *Options) { o.Visibility = time.Millisecond },
		"inline":            func(o *Options) { o.InlineBody = -1 },
		"body":              func(o *Options) { o.MaxBody = -1 },
		"backlog":           func(o *Options) { o.Backlog.Bytes = -1 },
		"replicas":          func(o *Options) { o.Ack.Replicas = -1 },
		"dead letters":      func(o *Options) { o.DeadLetters = -1 },
	}
	for name, change := range tests {
		o := good
		change(&o)
		if _, err := NewClient(o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	c := idle(t, 1)
	if got := c.RetryAfter(ErrNoNode); got < time.Second || got > restLongest {
		t.Errorf("with no node: got %v, want from 1s to %v", got, restLongest)
	}
	start := time.Now()
	d := &c.backlog.drain
	d.observe(start, 1000, 0)
	d.observe(start.Add(10*time.Second), 1000, 200) // 20 a second go, and come
	want := 2500 * time.Millisecond                 // for 50 of 1000
	if got := c.RetryAfter(ErrBacklog); got != want {
		t.Errorf("at 20 a second with 1000 in: got %v, want %v", got, want)
	}
	d.observe(start.Add(20*time.Second), 1010, 210)
	if got := c.RetryAfter(errors.Join(ErrBacklog)); got < time.Second || got > time.Minute {
		t.Errorf("with nothing that goes: got %v, want from 1s to 1m", got)
	}
}
