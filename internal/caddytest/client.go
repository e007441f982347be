package caddytest

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// A Response is an answer, read to its end. Err says what went wrong, also
// while the body was read; Body is then what came of it.
type Response struct {
	Status  int
	Header  http.Header
	Trailer http.Header
	Body    []byte
	Err     error
	Took    time.Duration
}

// Get asks the site. header is names and values in turn; Host is one of them.
func (c *Caddy) Get(path string, header ...string) Response {
	return c.ask(c.Addr, http.MethodGet, path, "", header...)
}

// Do asks the site with any method.
func (c *Caddy) Do(method, path, body string, header ...string) Response {
	return c.ask(c.Addr, method, path, body, header...)
}

// Invalidate posts to the admin endpoint.
func (c *Caddy) Invalidate(body string) Response {
	return c.ask(c.Admin, http.MethodPost, "/fluster/invalidate", body)
}

// DoAdmin asks the admin endpoint with any method.
func (c *Caddy) DoAdmin(method, path, body string, header ...string) Response {
	return c.ask(c.Admin, method, path, body, header...)
}

// AskAdmin gets a page of the admin endpoint.
func (c *Caddy) AskAdmin(path string) Response { return c.ask(c.Admin, http.MethodGet, path, "") }

// Open sends a request and returns when the head of its answer is there. The
// caller reads and closes the body. It fails the test where no head comes.
func (c *Caddy) Open(ctx context.Context, path string, header ...string) *http.Response {
	c.tb.Helper()
	resp, err := c.client.Do(c.request(ctx, c.Addr, http.MethodGet, path, "", header))
	if err != nil {
		c.tb.Fatal(err)
	}
	return resp
}

func (c *Caddy) ask(addr, method, path, body string, header ...string) Response {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	start := time.Now()
	resp, err := c.client.Do(c.request(ctx, addr, method, path, body, header))
	for try := 0; err != nil && try < 3 && c.handsOver(); try++ {
		resp, err = c.client.Do(c.request(ctx, addr, method, path, body, header))
	}
	if err != nil {
		return Response{Err: err, Took: time.Since(start)}
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return Response{resp.StatusCode, resp.Header, resp.Trailer, b, err, time.Since(start)}
}

// handsOver reports whether a reload was just now. Caddy closes the listener of
// the old configuration when the new one has its own, and a connection that
// waits in the old one's queue at that moment is reset: nobody has seen it.
func (c *Caddy) handsOver() bool {
	ns := c.reloaded.Load()
	return ns != 0 && time.Since(time.Unix(0, ns)) < 10*time.Second
}

func (c *Caddy) request(ctx context.Context, addr, method, path, body string, header []string) *http.Request {
	var content io.Reader
	if body != "" {
		content = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+addr+path, content)
	if err != nil {
		panic(err) // a mistake in the test
	}
	if addr == c.Addr {
		req.Host = Host
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
			continue
		}
		req.Header.Add(header[i], header[i+1])
	}
	return req
}

// Metric returns the sum of the samples whose line begins with prefix, as the
// admin endpoint tells them.
func (c *Caddy) Metric(prefix string) (sum float64) {
	c.tb.Helper()
	r := c.ask(c.Admin, http.MethodGet, "/metrics", "")
	if r.Err != nil || r.Status != http.StatusOK {
		c.tb.Fatalf("GET /metrics: %d %v", r.Status, r.Err)
	}
	for line := range strings.Lines(string(r.Body)) {
		if rest, ok := strings.CutPrefix(line, prefix); ok {
			words := strings.Fields(rest)
			v, err := strconv.ParseFloat(words[len(words)-1], 64)
			if err != nil {
				c.tb.Fatalf("reading %q: %v", line, err)
			}
			sum += v
		}
	}
	return sum
}

// CacheStatus returns the Cache-Status field.
func (r Response) CacheStatus() string { return strings.Join(r.Header["Cache-Status"], ", ") }

// Hit reports whether the answer says that it was a hit; where is near, node or
// "" for either.
func (r Response) Hit(where string) bool {
	s := r.CacheStatus()
	return strings.HasPrefix(s, "fluster; hit") && (where == "" || strings.HasSuffix(s, "detail="+where))
}

// String is the answer for a test's message.
func (r Response) String() string {
	body := string(r.Body)
	if len(body) > 60 {
		body = fmt.Sprintf("%.60s… (%d bytes)", body, len(body))
	}
	return fmt.Sprintf("%d [%s] %q err=%v", r.Status, r.CacheStatus(), body, r.Err)
}
