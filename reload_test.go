package fluster_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
)

// TestInvalidatingWhileReloading: W1, C3. An invalidation whose body is still coming when
// a reload configures the nodes otherwise, or names other ones, is made on those that
// are in force, and is acknowledged: by the handler and by the admin endpoint.
func TestInvalidatingWhileReloading(t *testing.T) {
	const purge = "fluster_invalidate /purge {\nallow 127.0.0.1\n}\n"
	for _, by := range []string{"handler", "admin"} {
		t.Run(by, func(t *testing.T) {
			o := caddytest.NewOrigin(t, caddytest.Answer(200, "page", fresh...))
			servers, _ := nodes(t, 2)
			on := func(i int, more string) string {
				return fmt.Sprintf("fluster {\nnodes %s?name=%c\n%s\n}", servers[i].URL(), 'a'+i, more)
			}
			c := caddytest.Load(t, on(0, ""), purge+cached(o))
			c.WaitUp(1)
			for _, next := range []struct{ global, node string }{{on(0, "timeout 400ms"), "a"}, {on(1, ""), "b"}, {on(1, "timeout 400ms"), "b"}} {
				addr, path := c.Addr, "/purge"
				if by == "admin" {
					addr, path = c.Admin, "/fluster/invalidate"
				}
				wantBody(t, c.Get("/"), 200, "page")
				answer := postHalf(t, addr, path, `{"all"`, `:true}`)
				c.Reload(next.global, purge+cached(o))
				time.Sleep(300 * time.Millisecond) // what is not used any more is closed
				if got := answer(); !strings.HasPrefix(got, "200 ") || !strings.Contains(got, `"applied":["`+next.node+`"]`) {
					t.Errorf("got %s, want 200 and that %s has it", got, next.node)
				}
				wantMiss(t, c, "/")
			}
		})
	}
}

// TestInvalidatingWhileStarting: W1. Caddy starts apps in no order, so a handler may be
// asked to invalidate before any node of its configuration was tried: it waits.
func TestInvalidatingWhileStarting(t *testing.T) {
	o := caddytest.NewOrigin(t, caddytest.Answer(200, "page", fresh...))
	servers, _ := nodes(t, 2)
	load := func(i int) (global, site string) {
		return fmt.Sprintf("fluster {\nnodes %s?name=a %s?name=b\ntimeout %dms\n}", servers[0].URL(), servers[1].URL(), 1000+i),
			"fluster_invalidate /purge {\nallow 127.0.0.1\nrate 100000\n}\n" + cached(o)
	}
	c := caddytest.Load(t, "", "")
	c.Reload(load(0))
	c.WaitUp(2)
	ctx, stop := context.WithCancel(t.Context())
	var asking sync.WaitGroup
	for range 2 {
		asking.Go(func() {
			for ctx.Err() == nil {
				if got := postOnce(c.Addr); got != "" && !strings.HasPrefix(got, "200 ") {
					t.Errorf("got %s, want 200", got)
				}
			}
		})
	}
	for i := range 20 {
		c.Reload(load(i + 1))
	}
	stop()
	asking.Wait()
}

// postOnce invalidates all, and returns the answer, its status first; nothing where there
// was none: a connection that Caddy has not taken when it reloads is reset.
func postOnce(addr string) string {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := client.Post("http://"+addr+"/purge", "application/json", strings.NewReader(`{"all":true}`))
	if err != nil {
		return ""
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return ""
	}
	return strconv.Itoa(r.StatusCode) + " " + string(body)
}

// postHalf sends a request with half of its body. What it returns sends the rest, and
// returns the answer, its status first.
func postHalf(t *testing.T, addr, path, half, rest string) func() string {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n%s", path, addr, len(half+rest), half)
	time.Sleep(100 * time.Millisecond) // the request is there
	return func() string {
		io.WriteString(conn, rest)
		r, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			return err.Error()
		}
		defer r.Body.Close()
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return err.Error()
		}
		return strconv.Itoa(r.StatusCode) + " " + string(body)
	}
}
