package shard

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

func TestHandshakeFailureIsRefused(t *testing.T) {
	ctx := context.Background()
	server := redistest.Start(t, "--requirepass", "s3cret")
	for name, tt := range map[string]struct {
		url  string
		o    Options
		want Outcome
	}{
		"no password":         {"redis://" + server.Addr(), Options{}, Refused},
		"wrong password":      {"redis://:wr0ng@" + server.Addr(), Options{}, Refused},
		"no such database":    {"redis://:s3cret@" + server.Addr() + "/99", Options{}, Refused},
		"right":               {"redis://:s3cret@" + server.Addr() + "/1", Options{}, OK},
		"password in options": {"redis://" + server.Addr(), Options{Password: "s3cret"}, OK},
	} {
		tt.o.Timeout = time.Second
		n, told := open(t, tt.url, tt.o)
		_, _, readErr := n.Read(ctx, "k", "")
		setErr := n.Client().Set(ctx, "k", "v", 0).Err()
		if o := told.take(); !slices.Equal(o, []Outcome{tt.want, tt.want}) {
			t.Errorf("%s: reported %v (%v; %v), want twice %v", name, o, readErr, setErr, tt.want)
		}
		for _, err := range []error{readErr, setErr} {
			if err != nil && (strings.Contains(err.Error(), "wr0ng") || strings.Contains(err.Error(), "s3cret")) {
				t.Errorf("%s: the error shows the password: %v", name, err)
			}
		}
	}
}

// TestRefusedHandshakeIsTheErrorOfEachCommand: where a server takes a connection and
// then does not serve it, no command of a pipeline counts as done.
func TestRefusedHandshakeIsTheErrorOfEachCommand(t *testing.T) {
	ctx := context.Background()
	server, cluster := redistest.Start(t), redistest.StartCluster(t, 3, 0)
	o := Options{Timeout: time.Second, ClientName: "test"}
	n, _ := open(t, server.URL(), o)
	a, err := ParseAddress(cluster.Nodes[0].URL())
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewCluster([]Address{a}, o, nil)
	if err != nil {
		t.Fatal(err)
	}
	closeNodes(t, []*Node{c})
	member, err := c.Client().(*redis.ClusterClient).MasterForKey(ctx, "a")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range append(cluster.Nodes, server) {
		raw := s.Client(t)
		if err := errors.Join(raw.ConfigSet(ctx, "requirepass", "s3cret").Err(), raw.ClientKillByFilter(ctx, "type", "normal").Err()); err != nil {
			t.Fatal(err)
		}
	}
	one, other := n.Client().(*redis.Client).Conn(), member.Conn()
	defer one.Close()   //nolint:errcheck // it goes back to its pool
	defer other.Close() //nolint:errcheck // likewise
	for name, client := range map[string]interface{ Pipeline() redis.Pipeliner }{
		"small": n.Client(), "bulk": n.Bulk(), "one connection": one,
		"a cluster's": c.Client(), "a cluster's bulk": c.Bulk(), "one connection to a member": other,
	} {
		pipe := client.Pipeline()
		cmds := []redis.Cmder{pipe.Set(ctx, "a", "1", 0), pipe.Get(ctx, "a")}
		if _, err := pipe.Exec(ctx); Classify(ctx, err) != Refused {
			t.Errorf("%s: the pipeline ended with %v, want that it is refused", name, err)
		}
		for _, cmd := range cmds {
			if Classify(ctx, cmd.Err()) != Refused {
				t.Errorf("%s: %v ended with %v, want that it is refused", name, cmd, cmd.Err())
			}
		}
	}
}

// serve starts a listener that does the same with each of its connections, and
// returns its address.
func serve(tb testing.TB, handle func(net.Conn)) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				handle(c)
				_ = c.Close()
			})
		}
	})
	tb.Cleanup(func() { _ = l.Close(); wg.Wait() })
	return l.Addr().String()
}

func TestWhatIsNoRedisIsRefused(t *testing.T) {
	ctx := context.Background()
	for name, handle := range map[string]func(net.Conn){
		"hangs up": func(net.Conn) {},
		"rubbish": func(c net.Conn) {
			_, _ = c.Read(make([]byte, 64))
			_, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
		},
		"too many clients": func(c net.Conn) {
			_, _ = c.Write([]byte("-ERR max number of clients reached\r\n"))
			_, _ = c.Read(make([]byte, 64))
		},
	} {
		n, told := open(t, "redis://"+serve(t, handle), Options{Timeout: time.Second})
		_, _, readErr := n.Read(ctx, "k", "")
		getErr := n.Client().Get(ctx, "k").Err()
		if o := told.take(); !slices.Equal(o, []Outcome{Refused, Refused}) {
			t.Errorf("%s: reported %v (%v; %v), want twice refused", name, o, readErr, getErr)
		}
	}
}

// TestWhatIsNoMessage: what a server sends on a subscription is an error where it is
// no message, whatever it is.
func TestWhatIsNoMessage(t *testing.T) {
	for _, reply := range []string{
		"*0\r\n", "*3\r\n$-1\r\n$-1\r\n$-1\r\n", "*1\r\n:1\r\n", "*1\r\n$7\r\nmessage\r\n",
		"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$-1\r\n", "*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n$1\r\n1\r\n", "*1\r\n$4\r\npong\r\n", ":1\r\n", "*-1\r\n",
	} {
		addr := serve(t, func(c net.Conn) {
			_, _ = c.Read(make([]byte, 64))
			_, _ = c.Write([]byte(reply))
			_, _ = io.Copy(io.Discard, c)
		})
		n, _ := open(t, "redis://"+addr, Options{Timeout: time.Second})
		sub := n.Subscribe(t.Context(), "c")
		if msg, err := Receive(t.Context(), sub, time.Second); err == nil {
			t.Errorf("%q: got the message %v", reply, msg)
		}
		_ = sub.Close()
	}
}

func TestTLS(t *testing.T) {
	ctx := context.Background()
	server := redistest.Start(t)
	known := httptest.NewTLSServer(nil) // for its certificate, which is for 127.0.0.1
	t.Cleanup(known.Close)
	roots := x509.NewCertPool()
	roots.AddCert(known.Certificate())
	url := "rediss://" + serve(t, func(c net.Conn) {
		plain, err := net.Dial("tcp", server.Addr())
		if err != nil {
			return
		}
		encrypted := tls.Server(c, &tls.Config{Certificates: known.TLS.Certificates})
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = io.Copy(plain, encrypted); _ = plain.Close() })
		_, _ = io.Copy(encrypted, plain)
		_ = encrypted.Close()
		wg.Wait()
	})
	for _, tt := range []struct {
		config *tls.Config
		want   Outcome
	}{{nil, Refused}, {&tls.Config{RootCAs: roots}, OK}} {
		n, told := open(t, url, Options{TLS: tt.config, Timeout: 5 * time.Second})
		_, _, err := n.Read(ctx, "k", "")
		if o := told.take(); !slices.Equal(o, []Outcome{tt.want}) {
			t.Errorf("with roots of its own %v: got %v, reported %v; want %v", tt.config != nil, err, o, tt.want)
		}
	}
}

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r.sock")
	redistest.Start(t, "--unixsocket", path)
	n, told := open(t, "unix://"+path+"?db=1", Options{Timeout: time.Second})
	if _, _, err := n.Read(context.Background(), "k", ""); err != nil || !slices.Equal(told.take(), []Outcome{OK}) {
		t.Errorf("Read by a socket: %v", err)
	}
}
