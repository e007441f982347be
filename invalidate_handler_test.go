package fluster_test

import (
	"strings"
	"testing"

	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
)

// TestInvalidateHandler: who may invalidate from outside may do so, and nobody
// else; each refusal says what is wrong, and each use is logged.
func TestInvalidateHandler(t *testing.T) {
	o := caddytest.NewOrigin(t, caddytest.Answer(200, "page", append(fresh, "Surrogate-Key", "x")...))
	c := caddytest.Load(t, "", "@purge method PURGE\nfluster_invalidate @purge {\nbearer other s3cret\n}\n"+
		"fluster_invalidate /purge {\nbearer s3cret\nallow 127.0.0.0/8\n}\n"+
		"fluster_invalidate /elsewhere {\nbearer s3cret\nallow 10.0.0.0/8 ::2\n}\n"+
		"fluster_invalidate /certificate {\nclient_certificate\n}\n"+
		"fluster_invalidate /seldom {\nallow 127.0.0.1\nrate 1\n}\n"+cached(o))
	good := []string{"Authorization", "Bearer s3cret"}
	tests := []struct {
		name, method, path, body string
		header                   []string
		want                     int
	}{
		{"no token", "POST", "/purge", `{"tag":["x"]}`, nil, 401},
		{"wrong token", "POST", "/purge", `{"tag":["x"]}`, []string{"Authorization", "Bearer s3cre"}, 401},
		{"wrong scheme", "POST", "/purge", `{"tag":["x"]}`, []string{"Authorization", "Basic s3cret"}, 401},
		{"wrong address", "POST", "/elsewhere", `{"tag":["x"]}`, good, 403},
		{"no certificate", "POST", "/certificate", `{"tag":["x"]}`, good, 403},
		{"wrong method", "GET", "/purge", "", good, 405},
		{"not understood", "POST", "/purge", `{"tags":["x"]}`, good, 400},
		{"another pool", "POST", "/purge", `{"tag":["x"],"pool":"a"}`, good, 400},
		{"nothing", "POST", "/purge", `{}`, good, 400},
	}
	for _, tt := range tests {
		wantHit(t, c, "near", "/page")
		if got := c.Do(tt.method, tt.path, tt.body, tt.header...); got.Status != tt.want {
			t.Errorf("%s: got %s, want %d", tt.name, got, tt.want)
		}
		if got := c.Get("/page"); !got.Hit("near") {
			t.Errorf("%s: got %s, want nothing forgotten", tt.name, got)
		}
	}
	if got := c.Do("POST", "/purge", `{"tag":["x"]}`, good...); got.Status != 200 || !strings.Contains(string(got.Body), `"applied":[]`) {
		t.Errorf("with the token: got %s, want an acknowledgement", got)
	}
	wantMiss(t, c, "/page")
	wantHit(t, c, "near", "/page")
	if got := c.Do("PURGE", "/page", "", good...); got.Status != 200 {
		t.Errorf("PURGE: got %s, want 200", got)
	}
	wantMiss(t, c, "/page")
	if first, second := c.Do("POST", "/seldom", `{"all":true}`), c.Do("POST", "/seldom", `{"all":true}`); first.Status != 200 || second.Status != 429 {
		t.Errorf("twice in a second: got %s and %s, want 200 and 429", first, second)
	}
	if used, refused := c.Logged(`"invalidated"`), c.Logged("invalidation refused"); len(used) != 3 || len(refused) != 5 {
		t.Errorf("the log has %d uses and %d refusals, want 3 and 5", len(used), len(refused))
	}
	if strings.Contains(c.Log(), "s3cret") {
		t.Error("the log has a token")
	}
}
