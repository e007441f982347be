package fluster_test

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	fluster "github.com/caddy-fluster/caddy-fluster"
	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

// explained asks what the cache would do with a path.
func explained(t *testing.T, c *caddytest.Caddy, path string, header ...string) fluster.Explanation {
	t.Helper()
	return ask[fluster.Explanation](t, c, explainPath(c, path, header...))
}

func explainPath(c *caddytest.Caddy, path string, header ...string) string {
	q := url.Values{"url": {"http://" + c.Addr + path}, "header": append(header, "Host: "+caddytest.Host)}
	return "/fluster/explain?" + q.Encode()
}

// TestExplain: what is told of a URL is what becomes of it, and telling it changes
// nothing: neither is the origin asked nor anything stored.
func TestExplain(t *testing.T) {
	o := caddytest.NewOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Etag", `"one"`)
		switch r.URL.Path {
		case "/private":
			h.Set("Cache-Control", "private")
		case "/varies":
			h.Set("Vary", "Accept-Language")
			fallthrough
		case "/page", "/list":
			h.Set("Cache-Control", "max-age=600")
			h.Set("Surrogate-Key", "a b")
		case "/stale":
			h.Set("Cache-Control", "max-age=1, stale-while-revalidate=600")
		case "/brief", "/brief/2":
			h.Set("Cache-Control", "max-age=1")
		}
		if r.Header.Get("If-None-Match") == "" {
			w.Write([]byte("body"))
		} else {
			w.WriteHeader(http.StatusNotModified)
		}
	})
	servers, global := nodes(t, 2, "")
	c := caddytest.Load(t, global, cached(o, "bypass /bypass", "client_directives honor", "key {\nquery_deny utm_*\n}"))
	c.WaitUp(2)
	want := func(when, path, would, why, near, node string, header ...string) fluster.Explanation {
		t.Helper()
		before := o.Count()
		e := explained(t, c, path, header...)
		state := func(r *fluster.ExplainedResponse) string {
			if r == nil {
				return ""
			}
			return r.State
		}
		if e.Would != would || e.Why != why || state(e.Near) != near || state(e.Node) != node {
			t.Errorf("%s, %s: would %s, %q, near %v, node %v; want %s, %q, %q, %q", when, path, e.Would, e.Why, e.Near, e.Node, would, why, near, node)
		}
		if n := o.Count(); n != before {
			t.Errorf("%s, %s: to explain it the origin was asked %d times", when, path, n-before)
		}
		return e
	}

	e := want("at first", "/page", "forward", "uri-miss", "", "")
	if e.URL != "http://"+caddytest.Host+"/page" || e.Key != e.URL || len(e.Nodes) != 2 || e.Nodes[0].State != "up" {
		t.Errorf("at first: got %+v", e)
	}
	want("at first", "/page", "forward", "uri-miss", "", "") // still
	want("always", "/bypass", "bypass", "bypass", "", "")
	for _, path := range []string{"/page", "/varies", "/stale", "/brief", "/private", "/private"} {
		c.Get(path, "Accept-Language", "de")
	}
	caddytest.Eventually(t, "they are on the nodes", func() bool {
		return explained(t, c, "/page").Node != nil && explained(t, c, "/stale").Node != nil && explained(t, c, "/brief").Node != nil
	})
	e = want("stored", "/page?utm_source=x", "hit", "", "fresh", "fresh")
	if n := e.Near; n.Status != 200 || n.Size != 4 || n.ETag != `"one"` || n.TTL < 590 || strings.Join(n.Tags, " ") != "a b" {
		t.Errorf("stored: got %s", n)
	}
	want("stored", "/page", "validate", "request", "fresh", "fresh", "Cache-Control: no-cache")
	want("stored", "/varies", "hit", "", "fresh", "fresh", "Accept-Language: de")
	want("stored", "/varies", "forward", "vary-miss", "other", "other", "Accept-Language: fr")
	if e := want("not stored", "/private", "forward", "uri-miss", "", ""); !e.Alone {
		t.Errorf("not stored: got %+v, want alone", e)
	}
	c.Get("/brief/2")
	time.Sleep(600 * time.Millisecond)
	if e := explained(t, c, "/brief/2"); e.Would == "hit" && e.Near.State != "fresh" {
		t.Errorf("in its last second: would be a hit, and is %s", e.Near)
	}
	time.Sleep(1100 * time.Millisecond)
	want("later", "/stale", "stale", "", "stale", "stale")
	want("later", "/brief", "validate", "stale", "stale", "stale")
	publish(t, servers[0].Client(t), "soft url http://"+caddytest.Host+"/page")
	publish(t, servers[0].Client(t), "url http://"+caddytest.Host+"/varies")
	caddytest.Eventually(t, "it was heard", func() bool { return explained(t, c, "/varies", "Accept-Language: de").Would == "forward" })
	// Until its record was read from the journals nobody knows what was stored before it.
	caddytest.Eventually(t, "the soft one is in the journals", func() bool { return explained(t, c, "/page").Node.State != "invalidated" })
	want("softly invalidated", "/page", "validate", "stale", "soft", "soft")
	if e := explained(t, c, "/varies", "Accept-Language: de"); e.Near.State != "invalidated" || e.Node != nil && e.Node.State != "invalidated" {
		t.Errorf("invalidated: near %s, node %s", e.Near, e.Node)
	}
}

// TestExplainWhatIsNotCached: what is asked for amiss, or reaches no cache, is said to; a
// queue does not take it.
func TestExplainWhatIsNotCached(t *testing.T) {
	o := caddytest.NewOrigin(t, caddytest.Answer(200, "page"))
	c := caddytest.Load(t, queueOn(redistest.Start(t)), "handle /hook {\nfluster_queue q\n}\nhandle /cut {\nabort\n}\nhandle /page {\n"+cached(o)+"\n}\nrespond 418")
	for path, want := range map[string]struct {
		status int
		says   string
	}{
		explainPath(c, "/other"):               {404, "no fluster_cache: it was answered with status 418"},
		explainPath(c, "/cut"):                 {404, "no fluster_cache"},
		explainPath(c, "/hook"):                {404, "no fluster_cache"},
		explainPath(c, "/page"):                {200, `"would":"forward"`},
		"/fluster/explain":                     {400, "url must be"},
		"/fluster/explain?url=ftp://a/":        {400, "url must be"},
		"/fluster/explain?url=http://u@a/":     {400, "user"},
		"/fluster/explain?url=http://a:1/":     {404, "no server listens to port 1"},
		"/fluster/explain?url=http://a:99999/": {404, "99999"},
		explainPath(c, "/page") + "&x=y":       {400, "no parameter x"},
		explainPath(c, "/page", "none"):        {400, "Name: value"},
	} {
		if r := c.AskAdmin(path); r.Status != want.status || !strings.Contains(string(r.Body), want.says) {
			t.Errorf("GET %s: got %d %s, want %d and %q", path, r.Status, r.Body, want.status, want.says)
		}
	}
	if n := ask[depthOf](t, c, "/fluster/queues/q"); n.Ready+n.InFlight != 0 {
		t.Errorf("the queue took it: %+v", n)
	}
	out, err := fluster.RunCommand("explain", "http://"+c.Addr+"/page", "-H", "Host: "+caddytest.Host, "--address", c.Admin)
	if err != nil || !strings.Contains(out, "forward (uri-miss)") {
		t.Errorf("caddy fluster explain: %v\n%s", err, out)
	}
	if out, err := fluster.RunCommand("explain", "/page", "--address", c.Admin); err == nil {
		t.Errorf("caddy fluster explain /page: got no error, and\n%s", out)
	}
}

// TestExplainSeveralServers: where sites with addresses of their own share a port, the
// one that has a cache for the URL explains it.
func TestExplainSeveralServers(t *testing.T) {
	o := caddytest.NewOrigin(t, caddytest.Answer(200, "page"))
	c := caddytest.Load(t, "", "respond 418")
	_, port, _ := net.SplitHostPort(c.Addr)
	site := "respond 418"
	for i := 2; i < 6; i++ {
		site += fmt.Sprintf("\n}\nhttp://%d.test:%s {\nbind 127.0.0.%d\n%s", i, port, i, cached(o))
	}
	c.Reload("", site)
	for range 5 {
		for _, host := range []string{"2.test", "3.test", "4.test", "5.test"} {
			if r := c.AskAdmin("/fluster/explain?url=http://" + host + ":" + port + "/page"); r.Status != 200 || !strings.Contains(string(r.Body), `"would":"forward"`) {
				t.Errorf("%s: got %s", host, r)
			}
		}
	}
	if r := c.AskAdmin("/fluster/explain?url=http://none.test:" + port + "/page"); r.Status != 404 || !strings.Contains(string(r.Body), "418") {
		t.Errorf("a host that none has: got %s", r)
	}
}

// TestExplainAlone: what this Caddy does not look for on the node, as it had responses
// that were for one client, is not told to be a hit.
func TestExplainAlone(t *testing.T) {
	var shared atomic.Bool
	o := caddytest.NewOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", map[bool]string{false: "private", true: "max-age=600"}[shared.Load()])
	})
	_, global := nodes(t, 1, "")
	c, other := caddytest.Load(t, global, cached(o)), caddytest.Start(t, global, cached(o))
	c.WaitUp(1)
	other.WaitUp(1)
	for _, times := range []int{1, 2} {
		path := fmt.Sprint("/", times)
		shared.Store(false)
		for range times {
			c.Get(path)
		}
		shared.Store(true)
		other.Get(path)
		caddytest.Eventually(t, "it is on the node", func() bool { return explained(t, c, path).Node != nil })
		e := explained(t, c, path)
		if r := c.Get(path); r.Hit("") || e.Would != "forward" || e.Why != "uri-miss" || !e.Alone {
			t.Errorf("after %d for one client: would %s (%s), alone %v, but got %s", times, e.Would, e.Why, e.Alone, r.CacheStatus())
		}
	}
}
