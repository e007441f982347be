package fluster_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

// TestPage: the page for people tells of nodes, near cache and queues, and explains a URL;
// what others have written shows as text.
func TestPage(t *testing.T) {
	o := caddytest.NewOrigin(t, caddytest.Answer(200, "page", append(fresh, "Surrogate-Key", "<b>")...))
	s := redistest.Start(t)
	c := caddytest.Load(t, queueOn(s), "handle /hook {\nfluster_queue q\n}\n"+cached(o))
	c.WaitUp(1)
	c.Get("/page")
	page := func(path string) string {
		t.Helper()
		r := c.AskAdmin(path)
		if r.Err != nil || r.Status != 200 || r.Header.Get("Content-Type") != "text/html; charset=utf-8" {
			t.Fatalf("GET %s: got %s", path, r)
		}
		return string(r.Body)
	}
	want := func(text string, wants ...string) {
		t.Helper()
		for _, w := range wants {
			if !strings.Contains(text, w) {
				t.Errorf("the page lacks %q:\n%s", w, text)
			}
		}
	}
	want(page("/fluster/"), s.Addr(), `<td class="up">up</td>`, "64 MiB", "<td>q</td>")
	q := url.Values{"url": {"http://" + c.Addr + "/page"}, "header": {"Host: " + caddytest.Host}}
	text := page("/fluster/?" + q.Encode())
	want(text, "<td>hit</td>", "status 200", "tags &lt;b&gt;")
	if strings.Contains(text, "<b>") {
		t.Errorf("a tag is a part of the page:\n%s", text)
	}
	want(page("/fluster/?url=%22%3E%3Cscript%3E"), "url must be", "&#34;&gt;&lt;script&gt;")

	// A browser is let in by a site alone: Caddy refuses it on the admin endpoint.
	c.Reload(queueOn(s), "handle /hook {\nfluster_queue q\n}\nreverse_proxy /fluster/* "+c.Admin+" {\nheader_up Host {upstream_hostport}\nheader_up -Origin\nheader_up -Referer\nheader_up -Sec-Fetch-*\n}")
	browser := []string{"Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"}
	if r := c.Get("/fluster/", browser...); r.Status != 200 || !strings.Contains(string(r.Body), s.Addr()) {
		t.Errorf("a browser gets %s", r)
	}
	s.Kill()
	c.WaitState(s.Addr(), "penalty")
	want(page("/fluster/"), `<td class="penalty">penalty</td>`)
	if r := c.AskAdmin("/fluster/nothing"); r.Status != 404 {
		t.Errorf("GET /fluster/nothing: got %s", r)
	}
}
