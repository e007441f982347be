package fluster_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
	"github.com/caddy-fluster/caddy-fluster/journal"
)

// TestInvalidatedByAnotherName: C3. Where several URLs reach one stored response, an
// invalidation of one of them is for those who ask for that one, also when others,
// whom it does not concern, were served the response since.
func TestInvalidatedByAnotherName(t *testing.T) {
	for name, tt := range map[string]struct {
		key, message string   // PATH in it stands for the path
		one, other   []string // what is asked for: what stands behind the path, and header
	}{
		"url of another host":     {"ignore_host", `{"url":["http://b.testPATH"]}`, []string{"", "Host", "a.test"}, []string{"", "Host", "b.test"}},
		"another host":            {"ignore_host", `{"host":["b.test"]}`, []string{"", "Host", "a.test"}, []string{"", "Host", "b.test"}},
		"url with what is denied": {"query_deny utm_*", `{"url":["http://example.testPATH?utm_x=1"]}`, []string{""}, []string{"?utm_x=1"}},
		"prefix with it":          {"query_deny utm_*", `{"prefix":["http://example.testPATH?utm_"]}`, []string{""}, []string{"?utm_x=1"}},
		"softly":                  {"ignore_host", `{"host":["b.test"],"soft":true}`, []string{"", "Host", "a.test"}, []string{"", "Host", "b.test"}},
	} {
		for _, from := range []string{"near", "node"} {
			t.Run(name+", from "+from, func(t *testing.T) {
				o := caddytest.NewOrigin(t, caddytest.Answer(200, "page", fresh...))
				site, with, without := cached(o, "key {\n"+tt.key+"\n}"), "", ""
				if from == "node" {
					_, with = nodes(t, 1, "timeout 5s")
					without = strings.Replace(with, "timeout", "near off\ntimeout", 1)
				}
				c := caddytest.Load(t, without, site)
				// A process that gets no processor for a second believes nothing that is stored.
				for try := range 5 {
					path := fmt.Sprint("/", try)
					wantHit(t, c, from, path+tt.one[0], tt.one[1:]...)
					if r := c.Invalidate(strings.ReplaceAll(tt.message, "PATH", path)); r.Status != 200 {
						t.Fatalf("invalidating: got %s", r)
					}
					c.Reload(with, site) // from the node it comes into the near cache now
					one, other := c.Get(path+tt.one[0], tt.one[1:]...), c.Get(path+tt.other[0], tt.other[1:]...)
					if !one.Hit(from) {
						t.Logf("who was not concerned: got %s, want a hit", one)
						c.Reload(without, site)
						continue
					}
					if other.Hit("") {
						t.Errorf("who asked for what was invalidated: got %s, want no hit", other)
					}
					wantHit(t, c, "", path+tt.other[0], tt.other[1:]...)
					return
				}
				t.Error("who was not concerned never had a hit")
			})
		}
	}
}

// TestOtherChannels: what is published holds for all, also where not all listen to
// the same channel: who hears another message at that moment does not call it alike.
func TestOtherChannels(t *testing.T) {
	var o *caddytest.Origin
	o = caddytest.NewOrigin(t, numbered(&o))
	servers, global := nodes(t, 1, "channel one")
	here, other := caddytest.Start(t, global, cached(o)), caddytest.Start(t, strings.Replace(global, "channel one", "channel two", 1), cached(o))
	client := servers[0].Client(t)
	for _, c := range []*caddytest.Caddy{here, other} {
		c.WaitUp(1)
	}
	caddytest.Eventually(t, "both listen", func() bool {
		n := client.PubSubNumSub(t.Context(), "one", "two").Val()
		return n["one"] == 1 && n["two"] == 1
	})
	here.Invalidate(`{"tag":["something else"],"wait":true}`) // now messages have names
	old := map[string]bool{}
	for _, path := range []string{"/a?tags=a", "/b?tags=b"} {
		for _, c := range []*caddytest.Caddy{here, other} {
			old[string(wantHit(t, c, "", path).Body)] = true
		}
	}
	pipe := client.TxPipeline()
	pipe.Publish(t.Context(), "one", "tag a")
	pipe.Publish(t.Context(), "two", "tag b")
	if _, err := pipe.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*caddytest.Caddy{here, other} {
		for _, path := range []string{"/a?tags=a", "/b?tags=b"} {
			caddytest.Eventually(t, path+" is another", func() bool { return !old[string(c.Get(path).Body)] })
		}
	}
	pause(journal.Lease)
	for _, c := range []*caddytest.Caddy{here, other} {
		for _, path := range []string{"/a?tags=a", "/b?tags=b"} {
			if r := c.Get(path); old[string(r.Body)] {
				t.Errorf("%s after all that was published: got %s", path, r)
			}
		}
	}
}
