package queue

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
	"github.com/caddy-fluster/caddy-fluster/shard"
)

// An aofServer stands in front of a server that may be too old for WAITAOF, and
// answers that as a newer one does: after some time, with how many have it.
type aofServer struct {
	t       *testing.T
	to      string
	takes   time.Duration
	reached atomic.Bool
	waits   atomic.Int64 // how often it was asked
	wrong   atomic.Int64 // how often on a connection that had written nothing
	conns   sync.WaitGroup
}

// serve returns the address of the one in front.
func (a *aofServer) serve() string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		a.t.Fatal(err)
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			a.conns.Go(func() { a.pass(conn) })
		}
	}()
	a.t.Cleanup(func() { listener.Close() })
	return listener.Addr().String()
}

// pass passes commands on, and WAITAOF as a script that gives its answer.
func (a *aofServer) pass(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", a.to)
	if err != nil {
		return
	}
	defer server.Close()
	go func() {
		_, _ = io.Copy(client, server)
		client.Close()
	}()
	in, wrote := bufio.NewReader(client), false
	for {
		words, raw, err := readCommand(in)
		if err != nil {
			return
		}
		switch strings.ToLower(words[0]) {
		case "xadd", "eval", "evalsha":
			wrote = true
		case "waitaof":
			reached := 0
			if most, _ := strconv.Atoi(words[3]); most > 1 { // 1: it asks whether there is such a command
				a.waits.Add(1)
				if !wrote {
					a.wrong.Add(1)
				}
				wrote = false
				time.Sleep(min(a.takes, time.Duration(most)*time.Millisecond))
				if a.reached.Load() {
					reached = 1
				}
			}
			raw = fmt.Appendf(nil, "*4\r\n$4\r\nEVAL\r\n$29\r\nreturn {tonumber(ARGV[1]), 0}\r\n$1\r\n0\r\n$1\r\n%d\r\n", reached)
		}
		if _, err := server.Write(raw); err != nil {
			return
		}
	}
}

// readCommand reads one command, as its words and as it came.
func readCommand(in *bufio.Reader) (words []string, raw []byte, err error) {
	number := func() (int, error) {
		line, err := in.ReadString('\n')
		if err != nil {
			return 0, err
		}
		raw = append(raw, line...)
		return strconv.Atoi(strings.TrimSpace(line[1:]))
	}
	n, err := number()
	if err != nil {
		return nil, nil, err
	}
	for range n {
		length, err := number()
		if err != nil {
			return nil, nil, err
		}
		word := make([]byte, length+2)
		if _, err := io.ReadFull(in, word); err != nil {
			return nil, nil, err
		}
		raw = append(raw, word...)
		words = append(words, string(word[:length]))
	}
	return words, raw, nil
}

func TestAckOfAOFIsWaitedForWithWAITAOF(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "everysec")
	front := &aofServer{t: t, to: server.Addr(), takes: 500 * time.Millisecond}
	front.reached.Store(true)
	a, err := shard.ParseAddress("redis://" + front.serve() + "?name=n0")
	if err != nil {
		t.Fatal(err)
	}
	node, err := shard.NewNode(a, shard.Options{Timeout: 300 * time.Millisecond}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	c, err := NewClient(Options{Name: "q", Partitions: OnNodes(node), Ack: Ack{AOF: true}})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, servers: []*redistest.Server{server}, c: c}
	if err := c.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	ids := map[string]bool{}
	var mu sync.Mutex
	began := time.Now()
	for i := range 40 {
		wg.Go(func() {
			receipt, err := c.Enqueue(t.Context(), plainOrNot(i))
			if took := time.Since(began); took < 500*time.Millisecond || took > 2*time.Second {
				t.Errorf("accepted after %v, want when it is on the disk", took)
			}
			mu.Lock()
			defer mu.Unlock()
			if ids[receipt.ID] = true; err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := len(r.entries("")); n != 40 {
		t.Errorf("%d are ready, want all that are accepted", n)
	}
	front.reached.Store(false)
	if _, err := c.Enqueue(t.Context(), &Message{}); !errors.Is(err, ErrDurability) {
		t.Errorf("got %v, want %v", err, ErrDurability)
	}
	if front.waits.Load() < 2 || front.wrong.Load() > 0 {
		t.Errorf("%d waits, %d of them on a connection that had written nothing", front.waits.Load(), front.wrong.Load())
	}
	r.expectDelivered(ids, nil)
}

// TestAckOfAOFOnARealServer: what a server of today has told to be on its disk is
// there after kill -9.
func TestAckOfAOFOnARealServer(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, Options{Ack: Ack{AOF: true}}, "--appendonly", "yes", "--appendfsync", "everysec")
	if r.raw().Command(t.Context()).Val()["waitaof"] == nil {
		t.Skip("the server is older than WAITAOF; FLUSTER_REDIS_SERVER names another one")
	}
	if err := r.c.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	ids, refused := r.enqueueMany(24, plainOrNot) // eight at a time, and the disk takes them once a second
	if refused > 0 {
		t.Errorf("%d were refused", refused)
	}
	r.servers[0].Kill()
	r.servers[0].RestartWithData()
	r.expectDelivered(ids, nil)
}
