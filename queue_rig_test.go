package fluster_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

// queueOn is the global option for a queue on servers.
func queueOn(servers ...*redistest.Server) string {
	s := "fluster {\n\tnodes"
	for _, server := range servers {
		s += " " + server.URL()
	}
	return s + "\n}"
}

// queueSite is a site with one queue, named q, and what is behind it for
// requests that are not queued.
func queueSite(options ...string) string {
	return "route {\n\tfluster_queue q {\n\t\t" + strings.Join(options, "\n\t\t") + "\n\t}\n\trespond \"passed on\" 200\n}"
}

// deliverTo is the option that lets an origin have the messages.
func deliverTo(o *caddytest.Origin) string { return "deliver {\n" + o.Behind() + "\n}" }

// accepted is the answer to an accepted request.
type accepted struct {
	ID, Queue, State, Detail string
	Status                   int
	Replayed                 bool
}

// wantAccepted checks that r is a 202 and returns what it says.
func wantAccepted(t *testing.T, r caddytest.Response) accepted {
	t.Helper()
	var a accepted
	if err := json.Unmarshal(r.Body, &a); r.Status != 202 || err != nil || a.ID == "" || a.Queue != "q" ||
		r.Header.Get("Content-Type") != "application/json" || r.Header.Get("Cache-Control") != "no-store" || r.Header.Get("Fluster-Message-Id") != a.ID {
		t.Fatalf("got %v %v, want 202 with an id", r, r.Header)
	}
	return a
}

// send sends a request that is to be accepted. On a machine under load a node may
// miss its time-out; then it is sent again, as a client does.
func send(t *testing.T, c *caddytest.Caddy, method, path, body string, header ...string) (r caddytest.Response) {
	t.Helper()
	for range 20 {
		if r = c.Do(method, path, body, header...); r.Status != 503 {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	return r
}

// wantProblem checks that r refuses with a status and says so.
func wantProblem(t *testing.T, r caddytest.Response, status int) {
	t.Helper()
	var p struct {
		Type, Title, Detail string
		Status              int
	}
	if err := json.Unmarshal(r.Body, &p); r.Status != status || err != nil || p.Status != status || p.Type != "about:blank" ||
		p.Title != http.StatusText(status) || p.Detail == "" || r.Header.Get("Content-Type") != "application/problem+json" || r.Header.Get("Cache-Control") != "no-store" {
		t.Fatalf("got %v %v, want a problem with status %d", r, r.Header, status)
	}
}

// A letterbox is an origin that keeps what it was sent.
type letterbox struct {
	*caddytest.Origin

	mu       sync.Mutex // guards all below
	letters  []letter
	statuses []int // for the next requests; then 200
}

type letter struct {
	method, uri, host, body string
	header                  http.Header
}

func newLetterbox(t *testing.T, statuses ...int) *letterbox {
	b := &letterbox{statuses: statuses}
	b.Origin = caddytest.NewOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // half a body is no letter
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		b.letters = append(b.letters, letter{r.Method, r.RequestURI, r.Host, string(body), r.Header})
		status := 200
		if len(b.statuses) > 0 {
			status, b.statuses = b.statuses[0], b.statuses[1:]
		}
		w.Header().Set("Content-Type", "text/plain")
		w.Header().Set("X-Upstream", "yes")
		w.WriteHeader(status)
		fmt.Fprintf(w, "answer to %s", body)
	})
	return b
}

// wait returns the letters when n have come.
func (b *letterbox) wait(t *testing.T, n int) []letter {
	t.Helper()
	var out []letter
	caddytest.Eventually(t, fmt.Sprintf("%d deliveries", n), func() bool {
		out = b.all()
		return len(out) >= n
	})
	if len(out) > n {
		t.Fatalf("got %d deliveries, want %d", len(out), n)
	}
	return out
}

func (b *letterbox) all() []letter {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.letters)
}

// ready is how many messages lie in the stream of queue q on a server.
func ready(t *testing.T, s *redistest.Server) int64 {
	t.Helper()
	n, err := s.Client(t).XLen(t.Context(), "{fluster:q:q:0}:s").Result()
	if err != nil {
		t.Fatal(err)
	}
	return n
}
