package fluster_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

// BenchmarkQueueAccept compares accepting with the same Caddy that answers
// `respond 202` to the same requests, both in turns: 64 connections, bodies of
// 1 KB, nobody delivers. The metric ratio is what there is to reach: 0.5.
func BenchmarkQueueAccept(b *testing.B) {
	c := caddytest.Load(b, queueOn(redistest.Start(b), redistest.Start(b)), `
		log_skip
		handle /queue {
			fluster_queue q
		}
		handle /ordered {
			fluster_queue ordered {
				order_by {header.X-Key}
			}
		}
		respond 202`)
	clients := make([]*rawClient, 64)
	for i := range clients {
		clients[i] = newRawClient(b, c.Addr)
	}
	const turn = 200 * time.Millisecond
	count := map[string]int64{}
	for b.Loop() {
		for _, path := range []string{"/respond", "/queue", "/ordered"} {
			var n atomic.Int64
			var wg sync.WaitGroup
			end := time.Now().Add(turn)
			for _, client := range clients {
				wg.Go(func() {
					for time.Now().Before(end) {
						client.post(b, path)
						n.Add(1)
					}
				})
			}
			wg.Wait()
			count[path] += n.Load()
		}
	}
	seconds := float64(b.N) * turn.Seconds()
	b.ReportMetric(float64(count["/queue"])/seconds, "accepted/s")
	b.ReportMetric(float64(count["/queue"])/float64(count["/respond"]), "ratio")
	b.ReportMetric(float64(count["/ordered"])/float64(count["/respond"]), "ordered-ratio")
}

// rawClient is a connection that posts, with as little work of its own as can be.
type rawClient struct {
	conn net.Conn
	r    *bufio.Reader
}

func newRawClient(b *testing.B, addr string) *rawClient {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close() })
	return &rawClient{conn, bufio.NewReader(conn)}
}

var rawBody = strings.Repeat("x", 1024)

// post posts and wants 202.
func (c *rawClient) post(b *testing.B, path string) {
	if _, err := io.WriteString(c.conn, fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nX-Key: %p\r\nContent-Length: 1024\r\n\r\n%s", path, c, rawBody)); err != nil {
		b.Error(err)
		return
	}
	length := 0
	for first := true; ; first = false {
		line, err := c.r.ReadSlice('\n')
		if err != nil || first && !strings.HasPrefix(string(line), "HTTP/1.1 202") {
			b.Errorf("POST %s: %s %v", path, line, err)
			return
		}
		if v, ok := strings.CutPrefix(string(line), "Content-Length: "); ok {
			length, _ = strconv.Atoi(strings.TrimSpace(v))
		}
		if len(line) == 2 {
			break
		}
	}
	if _, err := c.r.Discard(length); err != nil {
		b.Error(err)
	}
}
