package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
)

// A process is a Caddy in a process of its own, and a client for it whose
// connections can be ended.
type process struct {
	*caddytest.Caddy
	client   *http.Client
	life     *life        // of a queue's; else nil
	reloaded atomic.Int64 // when it last was, in nanoseconds
}

// handover is how long after a reload Caddy may still be closing the listener of
// the configuration before.
const handover = 4 * time.Second

// startProcess starts a Caddy; near is its option of that name. /beat passes by
// the cache.
func startProcess(tb testing.TB, o *origin, option, near string) *process {
	tb.Helper()
	global := fmt.Sprintf("fluster {\n%s\n%s\ntimeout %s\npenalty 100ms 400ms\n}", option, near, waitTimeout)
	site := fmt.Sprintf("handle /beat {\nreverse_proxy %[1]s\n}\nhandle {\nfluster_cache {\nstale_if_error 10s\n}\nreverse_proxy %[1]s\n}", o.addr)
	transport := &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}
	tb.Cleanup(transport.CloseIdleConnections)
	return &process{Caddy: caddytest.Start(tb, global, site), client: &http.Client{Transport: transport, Timeout: 30 * time.Second}}
}

// reply is an answer, read to its end.
type reply struct {
	status     int
	header     http.Header
	body       []byte
	err        error
	tries      int // connections that it took, where they were counted
	start, end time.Time
}

// get asks for a page. Each configuration of Caddy has a listener of its own, and
// the system resets connections that were waiting for the one before: so after a
// reload a connection that was lost before the head of an answer came is tried
// again, as browsers do.
func (p *process) get(path string) (r reply) {
	for range 3 {
		r = p.do(context.Background(), http.MethodGet, p.Addr+path, "")
		if r.err == nil || r.status != 0 || time.Since(time.Unix(0, p.reloaded.Load())) > handover {
			break
		}
	}
	return r
}

// admin asks the admin endpoint, until ctx ends. Caddy itself begins a new one
// with each configuration and may end connections to the one before: then it is
// asked again.
func (p *process) admin(ctx context.Context, method, path, body string) (r reply) {
	for range 5 {
		if r = p.do(ctx, method, p.Admin+path, body); r.err == nil || ctx.Err() != nil {
			break
		}
	}
	return r
}

func (p *process) do(ctx context.Context, method, place, body string) (r reply) {
	r.start = time.Now()
	defer func() { r.end = time.Now() }()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+place, strings.NewReader(body))
	if err != nil {
		r.err = err
		return r
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if strings.HasPrefix(place, p.Addr) {
		req.Host = caddytest.Host
	}
	return p.roundTrip(req)
}

// roundTrip sends a request and reads its answer to the end.
func (p *process) roundTrip(req *http.Request) (r reply) {
	r.start = time.Now()
	defer func() { r.end = time.Now() }()
	resp, err := p.client.Do(req)
	if err != nil {
		r.err = err
		return r
	}
	defer resp.Body.Close()
	r.status, r.header = resp.StatusCode, resp.Header
	r.body, r.err = io.ReadAll(resp.Body)
	return r
}

// nodeStatus is what is shown of a node.
type nodeStatus struct {
	Name, State string
	Parts       int
	PartsUp     int `json:"parts_up"`
}

// show returns what the process shows of the nodes, by name.
func (p *process) show() map[string]nodeStatus {
	r := p.admin(context.Background(), http.MethodGet, "/fluster/status", "")
	var status struct{ Nodes []nodeStatus }
	if r.err != nil || json.Unmarshal(r.body, &status) != nil {
		return nil
	}
	out := map[string]nodeStatus{}
	for _, n := range status.Nodes {
		out[n.Name] = n
	}
	return out
}

// reload gives both Caddys another configuration at the same time.
func (r *run) reload(without int) {
	path, value := r.world.reload(without)
	var wg sync.WaitGroup
	for _, c := range r.caddies {
		wg.Go(func() {
			c.reloaded.Store(time.Now().UnixNano())
			defer func() { c.reloaded.Store(time.Now().UnixNano()) }()
			if a := c.admin(context.Background(), http.MethodPatch, "/config/apps/fluster/"+path, value); a.err != nil || a.status != http.StatusOK {
				r.t.Errorf("setting %s to %s: %d %s %v", path, value, a.status, bytes.TrimSpace(a.body), a.err)
			}
		})
	}
	wg.Wait()
}

// holdings is what the Caddys hold on to.
type holdings struct {
	goroutines, files []float64 // by Caddy
	connections       int       // of both, to the servers
}

// hold returns what the Caddys hold on to while nobody asks anything.
func (r *run) hold() (h holdings) {
	for _, c := range r.caddies {
		c.client.CloseIdleConnections()
	}
	r.origin.server.CloseClientConnections()
	for _, c := range r.caddies {
		h.goroutines = append(h.goroutines, c.Metric("go_goroutines"))
		h.files = append(h.files, c.Metric("process_open_fds"))
	}
	h.connections = r.world.connections()
	return h
}

// holdings returns what the Caddys hold on to once that has come to rest.
func (r *run) holdings() (h holdings) {
	same := 0
	caddytest.Eventually(r.t, "the Caddys come to rest", func() bool {
		r.wait(50 * time.Millisecond)
		now := r.hold()
		if fmt.Sprint(now) == fmt.Sprint(h) {
			same++
		} else {
			h, same = now, 0
		}
		return same == 2
	})
	return h
}

// A pool has some connections in stock, and makes another when one of them was
// lost; each has a goroutine or two. What leaks does so with each fault, which
// are many more.
const (
	moreConnections = 8
	moreGoroutines  = 16
)

// wantNoMore waits until the Caddys hold on to no more than before.
func (r *run) wantNoMore(before holdings) {
	r.t.Helper()
	var now holdings
	more := moreConnections
	if r.world.apart() {
		// Who was a replica may be a master now, and the connections to who was one
		// are still in stock: of three servers there may be twice as many as before,
		// and of each as many as it was asked for at one time.
		more += 3 * before.connections / 2
	}
	defer func() {
		r.t.Logf("%s: goroutines %v, files %v, connections %d; before the faults %v, %v, %d", r.t.Name(),
			now.goroutines, now.files, now.connections, before.goroutines, before.files, before.connections)
	}()
	caddytest.Eventually(r.t, "nothing leaks", func() bool {
		r.wait(50 * time.Millisecond)
		now = r.hold()
		for i := range r.caddies {
			if now.goroutines[i] > before.goroutines[i]+moreGoroutines || now.files[i] > before.files[i]+float64(more) {
				return false
			}
		}
		return now.connections <= before.connections+more
	})
}

// history logs when the Caddys took nodes out of use and back.
func (r *run) history() {
	for i, c := range r.caddies {
		var lines []string
		for line := range strings.Lines(c.Log()) {
			var e struct {
				TS               float64
				Msg, Node, Error string
			}
			if json.Unmarshal([]byte(line), &e) != nil || e.Msg != "node penalized" && e.Msg != "node returned" {
				continue
			}
			at := time.UnixMicro(int64(e.TS * 1e6))
			lines = append(lines, fmt.Sprintf("%s %s %s %s", r.since(at), e.Msg, e.Node, e.Error))
		}
		r.t.Logf("Caddy %d:\n%s", i, strings.Join(lines, "\n"))
	}
}
