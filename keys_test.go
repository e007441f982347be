package fluster

import (
	"strings"
	"testing"
)

// TestKeysShareOneHashTag: what belongs together lies in one slot of a Redis
// Cluster, and under its namespace.
func TestKeysShareOneHashTag(t *testing.T) {
	b := newBucket("shop", 7)
	seen := map[string]bool{}
	for _, key := range []string{b.head(), b.journal(), b.record("x"), b.probe(), b.entry("k"), b.chunk(255, 0), b.chunk(255, 1)} {
		if !strings.HasPrefix(key, "{shop:7}:") || strings.Count(key, "{") != 1 {
			t.Errorf("key %q has not the hash tag {shop:7} at its begin, and no other", key)
		}
		if seen[key] {
			t.Errorf("key %q stands for two things", key)
		}
		seen[key] = true
	}
}

// TestKeysAsDocumented: operators and other processes know these.
func TestKeysAsDocumented(t *testing.T) {
	b := newBucket("fluster", 0)
	for got, want := range map[string]string{
		b.head():       "{fluster:0}:h",
		b.journal():    "{fluster:0}:j",
		b.record("ab"): "{fluster:0}:d:ab",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestHash128: 32 hexadecimal digits, of which both halves depend on the key,
// and not in the same way.
func TestHash128(t *testing.T) {
	hash128 := func(key string) string { return string(appendHash128(nil, key)) }
	a, b := hash128("http://a/"), hash128("http://b/")
	if len(a) != 32 || strings.Trim(a, "0123456789abcdef") != "" {
		t.Errorf("hash128: got %q, want 32 hexadecimal digits", a)
	}
	if a[:16] == b[:16] || a[16:] == b[16:] {
		t.Errorf("hash128 of two keys: %q and %q have a half in common", a, b)
	}
	if a[:16] == a[16:] {
		t.Errorf("hash128: both halves of %q are the same", a)
	}
	if again := hash128("http://a/"); again != a {
		t.Errorf("hash128 of one key: first %q, then %q", a, again)
	}
}
