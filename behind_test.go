package fluster_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
)

// TestBehindTakesAuthorization: C1. A handler behind that takes Authorization from
// the request makes what it answers none the less for whom it is.
func TestBehindTakesAuthorization(t *testing.T) {
	o := caddytest.NewOrigin(t, caddytest.Answer(200, "for members", fresh...))
	c := caddytest.Load(t, "", "@stranger not header Authorization *\nroute {\nfluster_cache\nrespond @stranger \"go away\" 401\nrequest_header -Authorization\n"+o.Behind()+"\n}")
	for range 3 {
		if r := c.Get("/", "Authorization", "Basic bWU6bWU="); string(r.Body) != "for members" || strings.Contains(r.CacheStatus(), "stored") {
			t.Fatalf("a member: got %s, want it from the origin, not stored", r)
		}
		if r := c.Get("/"); r.Status != 401 {
			t.Fatalf("a stranger: got %s, want 401", r)
		}
	}
}

// TestBehindItself: a site that proxies to another one of this Caddy, whose cache has the
// same key, does not wait for itself; nor where there is a third one.
func TestBehindItself(t *testing.T) {
	o := caddytest.NewOrigin(t, caddytest.Answer(200, "page", "Cache-Control", "max-age=0", "Etag", `"a"`))
	for _, collapse := range []string{"process", "cluster"} {
		t.Run(collapse, func(t *testing.T) {
			_, global := nodes(t, 1)
			site := func(behind string) string { return "fluster_cache {\ncollapse " + collapse + "\n}\n" + behind }
			next := func(hop string) string {
				return site("reverse_proxy 127.0.0.1:{http.request.local.port} {\nheader_up X-Hop " + hop + "\n}")
			}
			c := caddytest.Load(t, global, "@third header X-Hop two\nhandle @third {\n"+site(o.Behind())+"\n}\n"+
				"@second header X-Hop one\nhandle @second {\n"+next("two")+"\n}\nhandle {\n"+next("one")+"\n}")
			c.WaitUp(1)
			for range 3 {
				wantBody(t, c.Get("/"), 200, "page")
			}
		})
	}
}

// TestBehindChangesNominated: what Vary names is what the client sent, also where a
// handler behind changes that.
func TestBehindChangesNominated(t *testing.T) {
	o := caddytest.NewOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		caddytest.Answer(200, "in "+r.Header.Get("X-Tongue"), append(fresh, "Vary", "X-Tongue")...)(w, r)
	})
	c := caddytest.Load(t, "", "route {\nfluster_cache\nrequest_header X-Tongue ^ my-\n"+o.Behind()+"\n}")
	for _, tongue := range []string{"de", "fr"} {
		wantBody(t, wantMiss(t, c, "/", "X-Tongue", tongue), 200, "in my-"+tongue)
		wantBody(t, wantHit(t, c, "near", "/", "X-Tongue", tongue), 200, "in my-"+tongue)
	}
}

// TestBehindIsAskedAgain: C1. Handlers behind that change the request get it as it
// came, also when they are asked a second time for one request.
func TestBehindIsAskedAgain(t *testing.T) {
	o := caddytest.NewOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("If-None-Match") != "" { // for something else
			caddytest.Answer(304, "", "Etag", `"other"`, "Cache-Control", "no-cache")(w, r)
			return
		}
		caddytest.Answer(200, r.RequestURI+" "+strings.Join(r.Header["X-Way"], ","), "Etag", `"a"`, "Cache-Control", "no-cache")(w, r)
	})
	for name, behind := range map[string]string{
		"rewrite": "rewrite * /app{uri}\nrequest_header +X-Way {path}\n" + o.Behind(),
		"handle":  "handle /a* {\nrewrite * /app{uri}\nrequest_header +X-Way {path}\n" + o.Behind() + "\n}\nhandle {\nrespond other\n}",
		"uri":     "uri replace / /app/ 1\nrequest_header +X-Way {path}\n" + o.Behind(),
	} {
		t.Run(name, func(t *testing.T) {
			c := caddytest.Load(t, "", "route {\nfluster_cache\n"+behind+"\n}")
			before := o.Count()
			for range 3 {
				wantBody(t, c.Get("/a"), 200, "/app/a /app/a")
			}
			if got := o.Count() - before; got != 5 {
				t.Errorf("the origin was asked %d times, want 5", got)
			}
		})
	}
}

// overHTTP2 returns a client without compression of its own, one that does
// everything over HTTP/2.
func overHTTP2(t *testing.T) *http.Transport {
	transport := &http.Transport{Protocols: new(http.Protocols), DisableCompression: true}
	transport.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(transport.CloseIdleConnections)
	return transport
}

// TestTrailersWhileSomebodyCompresses: C6. Trailers pass over HTTP/2, where a
// writer before the cache changes the header while the handlers behind write them.
// (The race detector sees to it that they do not do so at one time.)
func TestTrailersWhileSomebodyCompresses(t *testing.T) {
	o := caddytest.NewOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		caddytest.Answer(200, strings.Repeat("page ", 400), fresh...)(w, r)
		if strings.HasSuffix(r.URL.Path, "0") {
			http.NewResponseController(w).Flush() //nolint:errcheck // it only hurries
			time.Sleep(20 * time.Millisecond)
		}
		w.Header().Set("X-Sum", "17")
	})
	c := caddytest.Load(t, "servers {\nprotocols h1 h2c\n}", "encode gzip\n"+cached(o))
	transport := overHTTP2(t)
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			req, _ := http.NewRequestWithContext(testContext(t), http.MethodGet, fmt.Sprintf("http://%s/%d", c.Addr, i), nil)
			req.Host = caddytest.Host
			req.Header.Set("Accept-Encoding", "gzip")
			resp, err := transport.RoundTrip(req)
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			_, err = io.Copy(io.Discard, resp.Body)
			if err != nil || resp.Header.Get("Content-Encoding") != "gzip" || resp.Trailer.Get("X-Sum") != "17" {
				t.Errorf("got %v, %v and the trailers %v, want gzip and X-Sum", resp.Header, err, resp.Trailer)
			}
		})
	}
	wg.Wait()
}

// flusher is a handler that says all by its header and a Flush, as one that
// streams may.
type flusher struct{}

func init() {
	caddy.RegisterModule(flusher{})
	httpcaddyfile.RegisterHandlerDirective("test_flusher", func(httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		return flusher{}, nil
	})
}

func (flusher) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.test_flusher", New: func() caddy.Module { return flusher{} }}
}

func (flusher) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	w.Header().Set("Cache-Tag", "secret")
	w.Header().Set("Cache-Control", "max-age=60")
	http.NewResponseController(w).Flush() //nolint:errcheck // it only hurries
	time.Sleep(10 * time.Millisecond)
	_, err := io.WriteString(w, "page")
	return err
}

// TestFlushBeforeAll: C6. A handler may begin its response by a Flush; that is then
// like any other response.
func TestFlushBeforeAll(t *testing.T) {
	c := caddytest.Load(t, "", "@pass path /pass\nroute {\nfluster_cache {\nbypass @pass\n}\ntest_flusher\n}")
	for path, want := range map[string]string{"/": "fluster; fwd=uri-miss; fwd-status=200; stored", "/pass": "fluster; fwd=bypass; fwd-status=200"} {
		r := c.Get(path)
		wantBody(t, r, 200, "page")
		if r.CacheStatus() != want || r.Header.Get("Cache-Tag") != "" {
			t.Errorf("%s: got %q and the tags %q, want %q and none", path, r.CacheStatus(), r.Header.Get("Cache-Tag"), want)
		}
	}
	wantBody(t, wantHit(t, c, "near", "/"), 200, "page")
}

// TestUnsafeThatFirstLetsBy: C3. What the first of two caches, of two pools, lets by is
// the next one's, the invalidation by an unsafe request too.
func TestUnsafeThatFirstLetsBy(t *testing.T) {
	o := caddytest.NewOrigin(t, caddytest.Answer(200, "page", fresh...))
	c := caddytest.Load(t, "fluster {\npool b {\nnear 1MiB\n}\n}", `route {
	@p path /p*
	fluster_cache {
		bypass @p
	}
	fluster_cache {
		pool b
	}
	`+o.Behind()+`
}`)
	for _, path := range []string{"/p", "/q"} {
		isHit := func() bool { return strings.Contains(c.Get(path).CacheStatus(), "fluster; hit") }
		caddytest.Eventually(t, "a hit", isHit)
		if r := c.Do("POST", path, ""); r.Status != 200 {
			t.Fatalf("POST: got %s", r)
		}
		if isHit() {
			t.Errorf("GET %s after a POST is a hit", path)
		}
	}
}
