package fluster_test

import (
	"net/http"
	"strings"
	"testing"

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
