package journal

import "testing"

// TestHosts: whatever a message calls a host by, it selects what was fetched from
// there, and nothing else.
func TestHosts(t *testing.T) {
	for _, c := range []struct {
		message, url string
		want         bool
	}{
		{"url //example.com:443/a", "https://example.com/a", true},
		{"url //example.com:443/a", "http://example.com:443/a", true},
		{"url //example.com:443/a", "http://example.com/a", false},
		{"url //example.com:80/a", "http://example.com/a", true},
		{"url //example.com:443/a", "https://example.com/ab", false},
		{"url //[::1]:443", "https://[::1]/", true},
		{"host example.com:443", "https://example.com/a", true},
		{"host example.com:443", "http://example.com:443/a", true},
		{"host example.com:443", "http://example.com/a", false},
		{"host EXAMPLE.com:80", "http://example.com/a", true},
		{"host example.com:80", "http://example.com.evil/a", false},
		{"prefix https://example.com:443", "https://example.com/a", true},
		{"prefix https://example.com:443", "https://example.com:4430/a", true},
		{"prefix http://example.com:443", "https://example.com/a", false},
		{"prefix //example.com:443/a", "https://example.com/abc", true},
		{`{"soft":true,"host":["example.com:443"]}`, "https://example.com/a", true},
		{"url https://example.com#top", "https://example.com/", true},
		{"url https://bücher.example/ä", "https://xn--bcher-kva.example/ä", true},
		{"url //BÜCHER.example:443/", "https://xn--bcher-kva.example/", true},
		{"host bücher.example:8080", "http://xn--bcher-kva.example:8080/", true},
		{"prefix https://bücher.example/a", "https://xn--bcher-kva.example/abc", true},
	} {
		targets, err := ParseMessage(c.message)
		if err != nil {
			t.Errorf("%q: %v", c.message, err)
			continue
		}
		b := NewBook(Options{}, at(0))
		before, sel := b.Learnt(), NewSelectors(c.url, nil)
		for _, target := range targets {
			b.Learn(b.NewRecord(target))
		}
		if got, _ := b.ValidNear(before, &sel); (got != Valid) != c.want {
			t.Errorf("%s after %q: got %v, want it selected: %v", c.url, c.message, got, c.want)
		}
	}
	for _, message := range []string{"url https://b\xfccher.example/", "host \u0301x", "prefix https://büch"} {
		if got, err := ParseMessage(message); err == nil {
			t.Errorf("%q: got %v, want an error: no client can name that host", message, got)
		}
	}
}
