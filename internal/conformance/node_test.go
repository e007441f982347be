package conformance

import (
	"bufio"
	"net"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

// A node is a Redis server whose commands are watched: Caddy writes what it
// stores after it has answered, and a row goes on only when that is done.
type node struct {
	url string

	mu     sync.Mutex     // guards writes
	writes map[string]int // how many values were set that name a row's path
}

// startNode starts a server. It ends with the test.
func startNode(t *testing.T) *node {
	t.Helper()
	s := redistest.Start(t)
	n := &node{url: s.URL(), writes: map[string]int{}}
	conn, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("MONITOR\r\n")); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.watch(conn)
	}()
	t.Cleanup(func() { conn.Close(); <-done })
	return n
}

// rowPath finds the path of a row in a command: the cache key is in the value.
var rowPath = regexp.MustCompile(`/(?:rfc|safe|search)/node-\d+-\d+x`)

// watch counts the values that are set until the connection ends.
func (n *node) watch(conn net.Conn) {
	r := bufio.NewReaderSize(conn, 1<<16)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		_, command, ok := strings.Cut(line, "] ")
		if !ok || !strings.HasPrefix(strings.ToLower(command[:min(6, len(command))]), `"set"`) {
			continue
		}
		if path := rowPath.FindString(command); path != "" {
			n.mu.Lock()
			n.writes[path]++
			n.mu.Unlock()
		}
	}
}

func (n *node) written(path string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.writes[path]
}

const (
	// unwritten is how long a row waits for a write that does not come.
	unwritten = 3 * time.Second
	// settling is the time that a node is given for what no write tells of.
	settling = 100 * time.Millisecond
)

// settle waits until what a step has stored lies where the next one looks.
func (r *run) settle(path string, before int, stores bool) {
	if r.node == nil {
		return
	}
	for end := time.Now().Add(unwritten); stores && r.node.written(path) == before && time.Now().Before(end); {
		pause(5 * time.Millisecond)
	}
	pause(settling)
}

// pause lets time pass: the clock of the Caddy is the real one.
func pause(d time.Duration) {
	if d > 0 {
		<-time.After(d)
	}
}

// waitUntilStoring waits until what is stored can be read from the node.
func (r *run) waitUntilStoring(t *testing.T) {
	t.Helper()
	const path = "/rfc/probe"
	r.caddy.origin.script(path, func(int) answer { return with("Cache-Control", "max-age=3600") })
	eventually(t, "the node is used", func() bool {
		got := ask(r.client, "http://"+r.caddy.addr+path, get())
		return strings.Contains(got.header.Get("Cache-Status"), "hit")
	})
}
