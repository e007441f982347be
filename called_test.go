package fluster_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

// narrow is a way to a server on which long packets get lost once it is narrow.
func narrow(t *testing.T, addr string, is *atomic.Bool) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	carry := func(to, from net.Conn) {
		defer to.Close()
		defer from.Close()
		b := make([]byte, 64<<10)
		for {
			n, err := from.Read(b)
			if err != nil {
				return
			}
			if n > 1400 && is.Load() {
				io.Copy(io.Discard, from)
				return
			}
			if _, err := to.Write(b[:n]); err != nil {
				return
			}
		}
	}
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", addr)
			if err != nil {
				conn.Close()
				continue
			}
			go carry(server, conn)
			go carry(conn, server)
		}
	}()
	return ln.Addr().String()
}

// TestNodesThatFailInUse: nodes that are well when they are tried, and fail when they are used,
// serve their penalties, also if no other is in use.
func TestNodesThatFailInUse(t *testing.T) {
	o := caddytest.NewOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		caddytest.Answer(200, strings.Repeat("x", 8000), "Cache-Control", "max-age=1000")(w, r)
	})
	var lost atomic.Bool
	line := "nodes"
	for i := range 2 {
		s := redistest.Start(t)
		line += fmt.Sprintf(" redis://%s?name=%c", narrow(t, s.Addr(), &lost), 'a'+i)
	}
	c := caddytest.Load(t, "fluster {\n"+line+"\ntimeout 100ms\nnear off\npenalty 60s 60s\n}", cached(o))
	c.WaitUp(2)
	l := startLoad(c)
	l.more(t, 500)
	lost.Store(true)
	caddytest.Eventually(t, "they are penalized", func() bool { return c.Metric("caddy_fluster_penalties_total") >= 2 })
	time.Sleep(3 * time.Second)
	n := c.Metric("caddy_fluster_penalties_total")
	l.stop()
	if n > 4 { // each is called once
		t.Errorf("got %v penalties, want each node to serve its second one", n)
	}
}
