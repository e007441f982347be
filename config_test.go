package fluster

import (
	"crypto/sha256"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/google/go-cmp/cmp"
)

// TestSizeInJSON: what is written is read as the same.
func TestSizeInJSON(t *testing.T) {
	tests := []struct {
		in   string
		want Size
		out  string // if it is not the input
	}{
		{`"64MiB"`, Size{Bytes: 64 << 20, Set: true}, `67108864`},
		{`"1kB"`, Size{Bytes: 1000, Set: true}, `1000`},
		{`"off"`, Size{Off: true, Set: true}, ""},
		{`0`, Size{Set: true}, ""},
		{`123`, Size{Bytes: 123, Set: true}, ""},
	}
	for _, tt := range tests {
		var got Size
		if err := json.Unmarshal([]byte(tt.in), &got); err != nil || got != tt.want {
			t.Errorf("reading %s: got %+v, %v, want %+v", tt.in, got, err, tt.want)
		}
		want := tt.out
		if want == "" {
			want = tt.in
		}
		b, err := json.Marshal(got)
		if err != nil || string(b) != want {
			t.Errorf("writing %+v: got %s, %v, want %s", got, b, err, want)
		}
		var again Size
		if err := json.Unmarshal(b, &again); err != nil || again != got {
			t.Errorf("reading %s, which was written: got %+v, %v, want %+v", b, again, err, got)
		}
	}
	for _, in := range []string{`"lots"`, `-1`, `"-1"`, `1.5`, `true`, `{}`} {
		var got Size
		if err := json.Unmarshal([]byte(in), &got); err == nil {
			t.Errorf("reading %s: got %+v, want an error", in, got)
		}
	}
}

// TestBlindInJSON: what is written is read as the same.
func TestBlindInJSON(t *testing.T) {
	tests := []struct {
		in   string
		want Blind
		out  string // if it is not the input
	}{
		{`"1m"`, Blind(time.Minute), `"1m0s"`},
		{`"1d"`, Blind(24 * time.Hour), `"24h0m0s"`},
		{`"forever"`, -1, ""},
		{`1000000000`, Blind(time.Second), `"1s"`},
	}
	for _, tt := range tests {
		var got Blind
		if err := json.Unmarshal([]byte(tt.in), &got); err != nil || got != tt.want {
			t.Errorf("reading %s: got %d, %v, want %d", tt.in, got, err, tt.want)
		}
		want := tt.out
		if want == "" {
			want = tt.in
		}
		b, err := json.Marshal(got)
		if err != nil || string(b) != want {
			t.Errorf("writing %d: got %s, %v, want %s", got, b, err, want)
		}
		var again Blind
		if err := json.Unmarshal(b, &again); err != nil || again != got {
			t.Errorf("reading %s, which was written: got %d, %v, want %d", b, again, err, got)
		}
	}
	for _, in := range []string{`"never"`, `"-1s"`, `-1`, `-60000000000`, `true`} {
		var got Blind
		if err := json.Unmarshal([]byte(in), &got); err == nil {
			t.Errorf("reading %s: got %d, want an error", in, got)
		}
	}
}

// TestConfigInJSON: a configuration that was written is read as the same.
func TestConfigInJSON(t *testing.T) {
	c := PoolConfig{
		Nodes: []string{"redis://a", "redis://b"}, Username: "u", Password: "p",
		TLS: &TLS{CA: "ca", ServerName: "s"}, Namespace: "n", Timeout: seconds(1),
		Penalty: &Penalty{First: seconds(2)}, Near: Size{Off: true, Set: true}, Channel: "c", Quorum: "strict", MaxBlind: new(Blind(-1)),
	}
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var got PoolConfig
	if err := caddy.StrictUnmarshalJSON(b, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(c, got); diff != "" {
		t.Errorf("after %s (-want +got):\n%s", b, diff)
	}
	if b, _ := json.Marshal(PoolConfig{}); string(b) != "{}" {
		t.Errorf("an empty configuration is written as %s", b)
	}
}

// TestConfigDefaults are those of DESIGN.md.
func TestConfigDefaults(t *testing.T) {
	got, err := PoolConfig{}.resolve(caddy.NewReplacer())
	if err != nil {
		t.Fatal(err)
	}
	want := PoolConfig{
		Nodes: []string{}, Cluster: []string{}, Namespace: "fluster", Timeout: caddy.Duration(100 * time.Millisecond),
		Penalty: &Penalty{seconds(1), seconds(60), 1.5}, Near: Size{Bytes: 64 << 20, Set: true},
		Channel: "fluster:invalidate", MaxBlind: new(Blind(time.Minute)),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the defaults (-want +got):\n%s", diff)
	}
	shop, err := PoolConfig{Namespace: "shop"}.resolve(caddy.NewReplacer())
	if err != nil || shop.Channel != "shop:invalidate" {
		t.Errorf("the channel of namespace shop: got %q, %v, want shop:invalidate", shop.Channel, err)
	}
}

// TestConfigErrors: each error names the option, and none a password.
func TestConfigErrors(t *testing.T) {
	t.Setenv("FLUSTER_TEST_NODE", "redis://user:hunter2@10.0.0.1")
	node := "redis://user:hunter2@10.0.0.1"
	tests := []struct {
		name   string
		config PoolConfig
		want   string
	}{
		{"nodes and cluster", PoolConfig{Nodes: []string{node}, Cluster: []string{node}}, "nodes, cluster and sentinel"},
		{"the same node twice", PoolConfig{Nodes: []string{node, node}}, "nodes: the same node twice"},
		{"the same node twice, with the default port", PoolConfig{Nodes: []string{node, node + ":6379"}}, "nodes: the same node twice"},
		{"the same name twice", PoolConfig{Nodes: []string{node + "?name=a", "redis://10.0.0.2?name=a"}}, "nodes: the same node twice"},
		{"the same address twice", PoolConfig{Nodes: []string{node + "?name=a", node + "?name=b"}}, "nodes: the same node twice"},
		{"the same node by a placeholder", PoolConfig{Nodes: []string{node, "{env.FLUSTER_TEST_NODE}"}}, "nodes: the same node twice"},
		{"a URL", PoolConfig{Nodes: []string{"http://user:hunter2@a"}}, "nodes: a node's address"},
		{"a URL of a cluster", PoolConfig{Cluster: []string{"redis://user:hunter2@a:port"}}, "cluster: "},
		{"an empty address", PoolConfig{Nodes: []string{""}}, "nodes: address 1 is empty"},
		{"an empty placeholder", PoolConfig{Nodes: []string{"{env.FLUSTER_TEST_UNSET}"}}, "nodes: a placeholder of address 1 has no value"},
		{"an empty password", PoolConfig{Nodes: []string{"redis://a", "redis://:{env.FLUSTER_TEST_UNSET}@b"}}, "nodes: a placeholder of address 2 has no value"},
		{"an empty port", PoolConfig{Cluster: []string{"redis://a:{env.FLUSTER_TEST_UNSET}"}}, "cluster: a placeholder of address 1 has no value"},
		{"an unknown placeholder", PoolConfig{Sentinel: &Sentinel{Master: "m", Addresses: []string{"redis://:a{b}@c"}}}, "sentinel: a placeholder of address 1 has no value"},
		{"the channel of the journal", PoolConfig{Channel: "fluster:journal"}, "channel fluster:journal is that of Caddys among themselves"},
		{"the channel of forwards", PoolConfig{Namespace: "a", Channel: "a:forwards"}, "channel a:forwards is that of Caddys"},
		{"sentinel without addresses", PoolConfig{Sentinel: &Sentinel{Master: "m"}}, "sentinel"},
		{"timeout", PoolConfig{Timeout: seconds(-1)}, "timeout must be at least 1ms"},
		{"near", PoolConfig{Near: Size{Bytes: 64, Set: true}}, "near must be at least 1KiB, or off, not 64 bytes"},
		{"quorum", PoolConfig{Quorum: "most"}, "quorum must be available or strict"},
		{"namespace", PoolConfig{Namespace: "a}b"}, "namespace"},
		{"sentinel without a master", PoolConfig{Sentinel: &Sentinel{Master: "redis://a", Addresses: []string{"redis://b"}}}, "sentinel takes the name of a master"},
		{"penalty", PoolConfig{Penalty: &Penalty{First: seconds(2), Longest: seconds(1)}}, "penalty.longest"},
		{"penalty without a unit", PoolConfig{Penalty: &Penalty{First: 1}}, "penalty.first must be at least 1ms"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := tt.config.resolve(caddy.NewReplacer())
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got error %v, want one with %q", err, tt.want)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error has the password in it: %v", err)
			}
		})
	}
}

// TestPlaceholders: one without a value is an error; what is none stays.
func TestPlaceholders(t *testing.T) {
	_, err := PoolConfig{Password: "{env.FLUSTER_TEST_IS_NOT_SET}"}.resolve(caddy.NewReplacer())
	if err == nil || !strings.Contains(err.Error(), "password: a placeholder has no value") {
		t.Errorf("a password that is not set: got %v, want an error", err)
	}
	for option, c := range map[string]TLS{
		"ca": {CA: "{env.FLUSTER_TEST_IS_NOT_SET}"}, "server_name": {ServerName: "{env.FLUSTER_TEST_IS_NOT_SET}"},
		"certificate": {Certificate: "{env.FLUSTER_TEST_IS_NOT_SET}", Key: "key"}, "key": {Certificate: "crt", Key: "{env.FLUSTER_TEST_IS_NOT_SET}"},
	} {
		_, err := (&PoolConfig{TLS: &c}).tlsConfig(caddy.NewReplacer())
		if want := "tls: " + option + ": a placeholder has no value"; err == nil || err.Error() != want {
			t.Errorf("got error %v, want %s", err, want)
		}
	}
	t.Setenv("FLUSTER_TEST_SECRET", "x")
	got, err := PoolConfig{Password: "{env.FLUSTER_TEST_SECRET}{b}"}.resolve(caddy.NewReplacer())
	if err != nil || got.Password != "x{b}" {
		t.Errorf("a password with braces: got %q, %v, want it as it is", got.Password, err)
	}
}

// TestTokenPlaceholders: a token of which a part has no value would be easier to guess, and
// what is no placeholder stays in it.
func TestTokenPlaceholders(t *testing.T) {
	for token, want := range map[string]string{
		"":                               "bearer: token 1 is empty",
		"{env.FLUSTER_TEST_IS_NOT_SET}":  "bearer: token 1: a placeholder has no value",
		"x{env.FLUSTER_TEST_IS_NOT_SET}": "bearer: token 1: a placeholder has no value",
	} {
		h := Invalidate{Bearer: []string{token}}
		if err := h.readTokens(caddy.NewReplacer()); err == nil || err.Error() != want {
			t.Errorf("%q: got error %v, want %q", token, err, want)
		}
	}
	h := Invalidate{Bearer: []string{"a{b}c"}}
	if err := h.readTokens(caddy.NewReplacer()); err != nil {
		t.Fatal(err)
	}
	if want := sha256.Sum256([]byte("a{b}c")); len(h.tokens) != 1 || h.tokens[0] != want {
		t.Error("a token with braces is not the one that was written")
	}
}

// TestFieldNames: what is no field name is an error.
func TestFieldNames(t *testing.T) {
	for _, name := range []string{"", "a b", "x:y", "é", "X-*", "*"} {
		if _, err := canonical("tags", []string{name}); err == nil {
			t.Errorf("%q: got no error", name)
		}
	}
}

// TestCacheErrors: what the Caddyfile does not take, JSON does not either.
func TestCacheErrors(t *testing.T) {
	for json, want := range map[string]string{
		`{"key": {"query_allow": ["a"], "query_deny": ["b"]}}`: "key: only one of query_allow and query_deny may be given",
		`{"key": {"query_deny": ["a*b"]}}`:                     `key: "a*b" is no name of a parameter: names are separated by spaces and written decoded, with * at most at the end`,
		`{"key": {"query_allow": ["ids%5B%5D*"]}}`:             `key: "ids%5B%5D*" is no name of a parameter: names are separated by spaces and written decoded, with * at most at the end`,
		`{"key": {"cookie": ["wp_*"]}}`:                        `key: "wp_*" is no name of a cookie: names are separated by spaces and written in full, without *`,
		`{"max_body": "off"}`:                                  "max_body must be a size like 8MiB, not off",
		`{"collapse": "x"}`:                                    `collapse: "x" is none of cluster, off, process`,
		`{"set_cookie": "no"}`:                                 `set_cookie: "no" is none of bypass, store, strip`,
	} {
		var h Cache
		if err := caddy.StrictUnmarshalJSON([]byte(json), &h); err != nil {
			t.Fatal(err)
		}
		if err := h.provisionPolicy(); err == nil || err.Error() != want {
			t.Errorf("%s: got error %v, want %q", json, err, want)
		}
	}
}
