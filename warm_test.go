package fluster_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	fluster "github.com/caddy-fluster/caddy-fluster"
	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
)

// TestWarmLargeIndex: each part of an index may take as long as one response may.
func TestWarmLargeIndex(t *testing.T) {
	o := caddytest.NewOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/index":
			fmt.Fprint(w, "<sitemapindex>")
			for i := range 8 {
				fmt.Fprintf(w, "<sitemap><loc>http://%s/part/%d</loc></sitemap>", r.Host, i)
			}
			fmt.Fprint(w, "</sitemapindex>")
		case strings.HasPrefix(r.URL.Path, "/part/"):
			time.Sleep(300 * time.Millisecond)
			fmt.Fprintf(w, "<urlset><url><loc>http://%s/page%s</loc></url></urlset>", r.Host, r.URL.Path)
		}
	})
	out, err := fluster.RunCommand("warm", "--sitemap", "http://"+o.Addr+"/index", "--timeout", "2s")
	if err != nil || !strings.Contains(out, "8 asked for") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestWarm: what is warmed is there for clients, and what became of the rest is told.
func TestWarm(t *testing.T) {
	var addr string
	o := caddytest.NewOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		page := func(path string) string { return "<loc>\n http://" + caddytest.Host + path + "</loc>" }
		switch r.URL.Path {
		case "/sitemap.xml":
			w.Header().Set("Location", "/sitemaps.xml")
			w.WriteHeader(http.StatusMovedPermanently)
		case "/sitemaps.xml":
			fmt.Fprint(w, `<?xml version="1.0"?><sitemapindex xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"><sitemap>`, page("/sitemap.xml.gz"), `</sitemap></sitemapindex>`)
		case "/sitemap.xml.gz":
			var b bytes.Buffer
			z := gzip.NewWriter(&b)
			fmt.Fprint(z, `<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"><url>`, page("/1"), `<lastmod>2026-11-23</lastmod></url><url>`, page("/2"), `</url><url>`, page("/2"), `</url></urlset>`)
			z.Close()
			w.Write(b.Bytes())
		case "/nested.xml":
			fmt.Fprint(w, `<sitemapindex><sitemap>`, page("/sitemaps.xml"), `</sitemap></sitemapindex>`)
		case "/html":
			fmt.Fprint(w, "<html><body></body></html>")
		case "/cookie":
			w.Header().Set("Set-Cookie", "a=b")
			w.Header().Set("Cache-Control", "max-age=600")
		case "/bad":
			w.WriteHeader(http.StatusBadGateway)
		case "/cut":
			w.Header().Set("Content-Length", "9")
			w.Write([]byte("cut"))
		default:
			w.Header().Set("Cache-Control", "max-age=600")
			w.Header().Set("Vary", "Accept-Language")
			fmt.Fprint(w, r.URL.Path, r.Header.Get("Accept-Language"))
		}
	})
	c := caddytest.Load(t, "", cached(o))
	addr = c.Addr
	warm := func(args ...string) (string, error) {
		return fluster.RunCommand(append([]string{"warm", "--to", addr}, args...)...)
	}
	site := "http://" + caddytest.Host

	out, err := warm("--sitemap", site+"/sitemap.xml", "-H", "Accept-Language: de")
	if err != nil || !strings.Contains(out, "2 asked for") || !strings.Contains(out, " 2 stored\n") {
		t.Errorf("by a sitemap: %v\n%s", err, out)
	}
	asked := o.Count()
	for _, path := range []string{"/1", "/2"} {
		if r := c.Get(path, "Accept-Language", "de"); !r.Hit("near") || string(r.Body) != path+"de" {
			t.Errorf("after it was warmed: got %s", r)
		}
	}
	if n := o.Count(); n != asked {
		t.Errorf("the origin was asked %d times for what was warmed", n-asked)
	}
	file := filepath.Join(t.TempDir(), "urls")
	text := "# some pages\n" + site + "/1\n\n " + site + "/3\n" + site + "/cookie\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err = warm("--from", file, "-H", "Accept-Language: de", "--concurrency", "2")
	for _, want := range []string{"3 asked for", " 1 stored\n", " 1 there before\n", " 1 not stored: set-cookie, as " + site + "/cookie\n"} {
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("by a file: %v\n%s\nwant %q", err, out, want)
		}
	}
	out, err = warm(site+"/4", site+"/bad", site+"/cut")
	for _, want := range []string{" 1 stored\n", "failed: 502 Bad Gateway, as", "failed: unexpected EOF, as"} {
		if err == nil || err.Error() != "2 of 3 failed" || !strings.Contains(out, want) {
			t.Errorf("what fails: %v\n%s\nwant %q", err, out, want)
		}
	}
	if err := os.WriteFile(file, []byte(site+"/5\nexample.com\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	asked = o.Count()
	for want, args := range map[string][]string{
		"nothing to ask for":         {},
		"no URL":                     {"/1"},
		file + ":2: \"example.com\"": {"--from", file},
		"Name: value":                {"-H", "none", site},
		"host:port":                  {"--to", "localhost", site},
		"at least 1":                 {"--concurrency", "0", site},
		"neither <urlset> nor":       {"--sitemap", site + "/html"},
		"is no sitemap":              {"--sitemap", site + "/1"},
		"listed in an index":         {"--sitemap", site + "/nested.xml"},
	} {
		if out, err := warm(args...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("warm %q: got %v, want an error with %q\n%s", args, err, want, out)
		}
	}
	if r := c.Get("/5"); r.Hit("") {
		t.Errorf("what stands before a mistake was asked for: %s", r)
	}
}
