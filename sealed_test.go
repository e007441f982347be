package fluster_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
)

// TestLockOfWhatIsForOneClient: who waits in another process does not wait until a client
// has taken a body that is for that client alone, as its node failed meanwhile.
func TestLockOfWhatIsForOneClient(t *testing.T) {
	g, body := newGate(), bodyOf(800<<10)
	o := caddytest.NewOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/long" {
			g.wait(r)
			file(body)(w, r)
		}
	})
	servers, global := nodes(t, 1, "near 64KiB\ntimeout 50ms\npenalty 1m 1m 1")
	const h2c = "servers {\nprotocols h1 h2c\n}\n"
	here := caddytest.Start(t, h2c+global, cached(o, "collapse cluster"))
	there := caddytest.Start(t, "fluster {\nnodes "+servers[0].URL()+"?name=a\ntimeout 10s\n}", cached(o, "collapse cluster"))
	here.WaitUp(1)
	there.WaitUp(1)

	small := overHTTP2(t)
	small.HTTP2 = &http.HTTP2Config{MaxReceiveBufferPerStream: 64 << 10}
	req, _ := http.NewRequestWithContext(testContext(t), http.MethodGet, "http://"+here.Addr+"/long", nil)
	req.Host = caddytest.Host
	go func() {
		if resp, err := small.RoundTrip(req); err == nil {
			<-req.Context().Done() // it takes nothing
			resp.Body.Close()
		}
	}()
	waitLocked(t, servers[0])
	servers[0].Pause()
	here.Get("/other")
	here.WaitState("a", "penalty")
	servers[0].Resume()
	g.open()
	r := within(t, 5*time.Second, "who waits elsewhere", background(there, "/long"))
	sameBody(t, "elsewhere", r.Body, body, r.Err)
}
