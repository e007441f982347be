package journal

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseMessage(t *testing.T) {
	url := func(v string) Target { return Target{Kind: URL, Value: v} }
	for _, c := range []struct {
		name, in string
		want     []Target // nil: refused
	}{
		{"url", "url https://example.com/a?b=1", []Target{url("https://example.com/a?b=1")}},
		{"normal form", "url HTTPS://Example.COM:443", []Target{url("https://example.com/")}},
		{"other port", "url http://example.com:443/x", []Target{url("http://example.com:443/x")}},
		{"any scheme", "url //example.com/a", []Target{url("//example.com/a")}},
		{"query without path", "url https://example.com?q", []Target{url("https://example.com/?q")}},
		{"fragment", "url https://example.com/a#b", []Target{url("https://example.com/a")}},
		{"raw path stays", "url https://e.com/A%2fb/../c", []Target{url("https://e.com/A%2fb/../c")}},
		{"prefix", "prefix https://Example.com/docs/", []Target{{Kind: Prefix, Value: "https://example.com/docs/"}}},
		{"prefix of hosts", "prefix https://exam", []Target{{Kind: Prefix, Value: "https://exam"}}},
		{"tags", "tag product-42 home", []Target{{Kind: Tag, Value: "product-42"}, {Kind: Tag, Value: "home"}}},
		{"spaces within", "tag a\u00a0b c\u3000d", []Target{{Kind: Tag, Value: "a\u00a0b"}, {Kind: Tag, Value: "c\u3000d"}}},
		{"bytes", "tag caf\xe9", []Target{{Kind: Tag, Value: "caf\xe9"}}},
		{"host", "host Example.com:8080", []Target{{Kind: Host, Value: "example.com:8080"}}},
		{"all", " all\n", []Target{{Kind: All}}},
		{"soft", "soft tag product-42", []Target{{Kind: Tag, Value: "product-42", Soft: true}}},
		{"soft all", "soft all", []Target{{Kind: All, Soft: true}}},
		{"JSON", `{"tag":["a"],"url":["//e/x"],"prefix":[],"host":["h"],"all":false,"soft":true}`, []Target{
			{URL, "//e/x", true}, {Tag, "a", true}, {Host, "h", true}}},
		{"JSON all", ` {"all":true}`, []Target{{Kind: All}}},

		{"empty", "", nil},
		{"soft alone", "soft", nil},
		{"unknown kind", "purge https://e/", nil},
		{"begin is no kind of users", "begin", nil},
		{"no value", "tag", nil},
		{"all with a value", "all x", nil},
		{"no scheme", "url example.com/a", nil},
		{"foreign scheme", "url ftp://example.com/a", nil},
		{"no host", "url https:///a", nil},
		{"one bad of two", "url https://e/ nonsense", nil},
		{"host with a path", "host example.com/a", nil},
		{"JSON unknown member", `{"tags":["a"]}`, nil},
		{"JSON member twice", `{"tag":["a"],"tag":["b"]}`, nil},
		{"JSON member twice, in another case", `{"tag":["a"],"TAG":["b"]}`, nil},
		{"JSON empty", `{}`, nil},
		{"JSON empty tag", `{"tag":[""]}`, nil},
		{"JSON and more", `{"all":true} x`, nil},
		{"JSON that is not UTF-8", "{\"tag\":[\"caf\xe9\"]}", nil},
		{"JSON cut off", `{"all":true`, nil},
		{"too long", "tag " + strings.Repeat("x", MaxMessage), nil},
	} {
		got, err := ParseMessage(c.in)
		if (err == nil) != (c.want != nil) {
			t.Errorf("%s: ParseMessage(%.80q) error: got %v, want one: %v", c.name, c.in, err, c.want == nil)
		} else if diff := cmp.Diff(c.want, got); err == nil && diff != "" {
			t.Errorf("%s: ParseMessage(%q) (-want +got):\n%s", c.name, c.in, diff)
		}
	}
}

// Each target selects or not, hard and soft, by the table and as an owed record.
func TestSelection(t *testing.T) {
	const url = "https://example.com:8443/a/b?c=d"
	for _, c := range []struct {
		message string
		want    bool
	}{
		{"url " + url, true},
		{"url //example.com:8443/a/b?c=d", true},
		{"url http://example.com:8443/a/b?c=d", false},
		{"url https://example.com:8443/a/b", false},
		{"url https://stored.example/", true},
		{"prefix https://example.com:8443/a", true},
		{"prefix //example.com:8443/a/b?", true},
		{"prefix https://stored.", true},
		{"prefix https://example.com:8443/b", false},
		{"prefix " + url + "e", false},
		{"host example.com:8443", true},
		{"host stored.example", true},
		{"host example.com", false},
		{"tag x", true},
		{"tag z", false},
		{"all", true},
	} {
		for _, soft := range []string{"", "soft "} {
			stored := NewSelectors("https://stored.example/", []string{"x", "y"})
			sel := stored.WithURL(url)
			b := NewBook(Options{}, at(0))
			v := loadedView(t, b)
			stamp, _ := v.Stamp(at(0))
			n := b.Learnt()
			targets, err := ParseMessage(soft + c.message)
			if err != nil {
				t.Fatal(err)
			}
			b.Learn(b.NewRecord(targets[0]))
			want := Valid
			if c.want && soft != "" {
				want = Stale
			} else if c.want {
				want = Dead
			}
			if got, _ := b.ValidNear(n, &sel); got != want {
				t.Errorf("ValidNear after %q: got %v, want %v", soft+c.message, got, want)
			}
			if got := v.ValidNode(stamp, &sel) == Dead; got != c.want {
				t.Errorf("ValidNode while %q is owed: dead is %v, want %v", soft+c.message, got, c.want)
			}
		}
	}
}

// TestValidName: what selects one more URL of a response kills it for those who ask
// for that one, since when it was fetched; what selects all is not asked again.
func TestValidName(t *testing.T) {
	const url = "https://other.example/a?x=1"
	for _, c := range []struct {
		message string
		want    Validity
	}{
		{"url " + url, Dead},
		{"url //other.example/a?x=1", Dead},
		{"prefix https://other.example/a", Dead},
		{"host other.example", Dead},
		{"soft host other.example", Stale},
		{"soft prefix //other.example/", Stale},
		{"url https://other.example/a", Valid},
		{"host stored.example", Valid},
		{"tag x", Valid},
		{"all", Valid},
		{"soft all", Valid},
	} {
		b := NewBook(Options{}, at(0))
		before := b.Learnt()
		targets, err := ParseMessage(c.message)
		if err != nil {
			t.Fatal(err)
		}
		b.Learn(b.NewRecord(targets[0]))
		if got := b.ValidName(before, url); got != c.want {
			t.Errorf("fetched before %q: got %v, want %v", c.message, got, c.want)
		}
		learnt := b.Learnt()
		b.Learn(b.NewRecord(Target{Kind: Tag, Value: "something else"}))
		if got := b.ValidName(learnt, url); got != Valid {
			t.Errorf("fetched after %q: got %v, want it valid", c.message, got)
		}
	}
	b := NewBook(Options{MaxTargets: 4}, at(0))
	for i := range 10 {
		b.Learn(b.NewRecord(Target{Kind: Tag, Value: string(rune('a' + i))}))
	}
	if got := b.ValidName(0, url); got != Dead {
		t.Errorf("before what the table has forgotten: got %v, want it dead", got)
	}
}

func TestWithURLLeavesTheOriginalAlone(t *testing.T) {
	s := NewSelectors("https://a/", []string{"x"})
	before := len(s.sums)
	one, two := s.WithURL("https://b/"), s.WithURL("https://c/")
	if len(s.sums) != before || one.sums[before] == two.sums[before] {
		t.Error("selectors share what WithURL added")
	}
}
