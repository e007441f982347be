package fluster_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
)

// TestGarbage: C7. What is read from a node and is not whole, or is another's,
// is a miss and counted, and is deleted unless another version may read it.
func TestGarbage(t *testing.T) {
	o := caddytest.NewOrigin(t, caddytest.Answer(200, "page", fresh...))
	servers, global := nodes(t, 1, "near off", "timeout 5s")
	client := servers[0].Client(t)
	c := caddytest.Load(t, global, cached(o, "collapse off"))
	c.WaitUp(1)
	tests := []struct {
		name   string
		spoil  func(value []byte) []byte
		stays  bool
		reason string
	}{
		{"foreign", func([]byte) []byte { return []byte("hello") }, false, "format"},
		{"empty", func([]byte) []byte { return nil }, false, "format"},
		{"torn", func(b []byte) []byte { return b[:len(b)/2] }, false, "format"},
		{"longer", func(b []byte) []byte { return append(b, 0) }, false, "format"},
		{"wrong in the body", func(b []byte) []byte { b[len(b)-1] ^= 1; return b }, false, "format"},
		{"wrong in the key", func(b []byte) []byte { return bytes.Replace(b, []byte("/a"), []byte("/b"), 1) }, false, "format"},
		{"large", func([]byte) []byte { return bytes.Repeat([]byte("x"), 2<<20) }, false, "format"},
		{"another version", func(b []byte) []byte { b[3] = 99; return b }, true, "version"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o.Handle(caddytest.Answer(200, "page", fresh...))
			wantMiss(t, c, "/a")
			waitStored(t, servers, 1)
			wantHit(t, c, "node", "/a")
			key := storedKeys(t, servers)[0]
			value, err := client.Get(t.Context(), key).Bytes()
			if err != nil {
				t.Fatal(err)
			}
			spoilt := tt.spoil(value)
			if err := client.Set(t.Context(), key, spoilt, time.Hour).Err(); err != nil {
				t.Fatal(err)
			}
			o.Handle(caddytest.Answer(200, "not stored", "Cache-Control", "no-store"))
			counter := `caddy_fluster_garbage_total{reason="` + tt.reason + `"}`
			before := c.Metric(counter)
			wantBody(t, wantMiss(t, c, "/a"), 200, "not stored")
			if got := c.Metric(counter) - before; got != 1 {
				t.Errorf("%s went up by %v, want 1", counter, got)
			}
			if tt.stays {
				wantMiss(t, c, "/a")
				if now, err := client.Get(t.Context(), key).Bytes(); err != nil || !bytes.Equal(now, spoilt) {
					t.Errorf("a value of another version has become %q, %v", now, err)
				}
			} else {
				caddytest.Eventually(t, "the value is deleted", func() bool { return client.Exists(t.Context(), key).Val() == 0 })
			}
			client.Del(t.Context(), key)
			if s := c.Nodes()["a"].State; s != "up" {
				t.Errorf("the node is %s, want up: garbage is not its fault", s)
			}
		})
	}
}

// TestAnotherKeysValue: C7. A collision of hashes, or somebody's trick, puts
// the response of one URL where another is looked for: it is not given to it.
func TestAnotherKeysValue(t *testing.T) {
	o := caddytest.NewOrigin(t, echo(fresh...))
	servers, global := nodes(t, 1, "near off", "timeout 5s")
	client := servers[0].Client(t)
	c := caddytest.Load(t, global, cached(o))
	c.WaitUp(1)
	wantMiss(t, c, "/a")
	waitStored(t, servers, 1)
	of := map[string]string{"/a": storedKeys(t, servers)[0]}
	wantMiss(t, c, "/b")
	waitStored(t, servers, 2)
	for _, key := range storedKeys(t, servers) {
		if key != of["/a"] {
			of["/b"] = key
		}
	}
	if err := client.Copy(t.Context(), of["/a"], of["/b"], 0, true).Err(); err != nil {
		t.Fatal(err)
	}
	before := c.Metric("caddy_fluster_garbage_total")
	if r := c.Get("/b"); r.Hit("") || !strings.Contains(string(r.Body), " /b ") {
		t.Errorf("/b, with the value of /a under its key: got %s", r)
	}
	if got := c.Metric("caddy_fluster_garbage_total") - before; got != 1 {
		t.Errorf("the counter went up by %v, want 1", got)
	}
}

// TestWrongType: C7. A key of the cache that holds no string is a miss.
func TestWrongType(t *testing.T) {
	o := caddytest.NewOrigin(t, caddytest.Answer(200, "page", fresh...))
	servers, global := nodes(t, 1, "near off", "timeout 5s")
	client := servers[0].Client(t)
	c := caddytest.Load(t, global, cached(o))
	c.WaitUp(1)
	wantMiss(t, c, "/a")
	waitStored(t, servers, 1)
	key := storedKeys(t, servers)[0]
	client.Del(t.Context(), key)
	client.LPush(t.Context(), key, "x")
	for range 3 {
		wantBody(t, c.Get("/a"), 200, "page")
	}
	wantHit(t, c, "node", "/a") // it was overwritten
}

// TestMissingChunk: C7. A long body of which a part is gone, or is another's, is
// a miss.
func TestMissingChunk(t *testing.T) {
	body := string(bodyOf(700 << 10))
	o := caddytest.NewOrigin(t, caddytest.Answer(200, body, fresh...))
	servers, global := nodes(t, 1, "near off", "timeout 5s")
	client := servers[0].Client(t)
	c := caddytest.Load(t, global, cached(o))
	c.WaitUp(1)
	for _, spoil := range []string{"delete", "change"} {
		wantMiss(t, c, "/"+spoil)
		wantHit(t, c, "node", "/"+spoil)
		for _, key := range client.Keys(t.Context(), "*:c:*:1").Val() {
			if spoil == "delete" {
				client.Del(t.Context(), key)
				continue
			}
			client.SetRange(t.Context(), key, 1000, "something else")
		}
		before := o.Count()
		wantBody(t, wantMiss(t, c, "/"+spoil), 200, body)
		if o.Count() != before+1 {
			t.Errorf("%s: the origin was not asked", spoil)
		}
		client.FlushDB(t.Context())
		c.WaitUp(1)
	}
}
