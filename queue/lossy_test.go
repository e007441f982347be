package queue

import (
	"bytes"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

// lossyProxy stands before a server. Once told to, it lets the next script through
// and then ends the connection instead of passing on what came of it.
type lossyProxy struct {
	addr  string
	loses atomic.Bool
	lost  atomic.Int32
}

func newLossyProxy(t *testing.T, s *redistest.Server) *lossyProxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &lossyProxy{addr: l.Addr().String()}
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	t.Cleanup(func() { l.Close() })
	wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", s.Addr())
			if err != nil {
				client.Close()
				continue
			}
			t.Cleanup(func() { client.Close(); server.Close() })
			var loses atomic.Bool
			wg.Go(func() {
				forward(server, client, func(b []byte) bool {
					if bytes.Contains(b, []byte("\r\nevalsha\r\n")) && p.loses.CompareAndSwap(true, false) {
						loses.Store(true)
						p.lost.Add(1)
					}
					return true
				})
			})
			wg.Go(func() { forward(client, server, func([]byte) bool { return !loses.Load() }) })
		}
	})
	return p
}

// forward copies from src to dst as long as it may.
func forward(dst, src net.Conn, may func([]byte) bool) {
	defer dst.Close()
	defer src.Close()
	b := make([]byte, 64<<10)
	for {
		n, err := src.Read(b)
		if err != nil || !may(b[:n]) {
			return
		}
		if _, err := dst.Write(b[:n]); err != nil {
			return
		}
	}
}
