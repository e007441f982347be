package journal

import (
	"fmt"
	"hash/maphash"
	"strings"
)

// Kind says how a Target selects stored responses.
type Kind byte

// The kinds of Target, by the letter under which they lie in a journal.
const (
	URL    Kind = 'u' // the response of exactly this URL, with all its variants
	Tag    Kind = 't' // responses that carry this tag
	Prefix Kind = 'p' // responses whose URL starts with this string
	Host   Kind = 'h' // responses of this host
	All    Kind = 'a' // everything
	Begin  Kind = 'b' // nothing: the first record of every journal
	Mark   Kind = 'm' // nothing: a position, to tell before from after, or to vouch for others
	Return Kind = 'r' // what lay on this one node before: it was out of use, and is back
	Flush  Kind = 'f' // what lay on this one node before: it is dead
)

// kindWords are the kinds as users write them.
var kindWords = map[string]Kind{"url": URL, "tag": Tag, "prefix": Prefix, "host": Host, "all": All}

// String returns k as users write it; of a kind that they cannot, its letter.
func (k Kind) String() string {
	for word, kind := range kindWords {
		if kind == k {
			return word
		}
	}
	return fmt.Sprintf("kind %q", byte(k))
}

// Target is what an invalidation selects. Soft targets make what they select
// stale instead of dead.
type Target struct {
	Kind  Kind
	Value string // normalized; empty where the kind says it all
	Soft  bool
}

// isLocal reports whether a record of the target is about one journal alone.
func (t Target) isLocal() bool {
	return t.Kind == Begin || t.Kind == Mark || t.Kind == Return || t.Kind == Flush
}

// String returns the target as it may be published.
func (t Target) String() string {
	s := t.Kind.String()
	if t.Value != "" {
		s += " " + t.Value
	}
	if t.Soft {
		s = "soft " + s
	}
	return s
}

// maxValue is how many bytes of a URL, host or tag a record has at most.
const maxValue = 1024

// NewTarget returns the target of this kind and value in normal form: scheme
// and host in lower case and in ASCII, the default port left out, an empty path
// as "/". An error says what is wrong with the value.
func NewTarget(k Kind, value string, soft bool) (Target, error) {
	t := Target{Kind: k, Value: value, Soft: soft}
	switch k {
	case URL, Prefix:
		scheme, rest, ok := splitScheme(value)
		if !ok {
			return t, fmt.Errorf("%s %q must start with http://, https:// or //", k, clip(value))
		}
		host, path := rest, ""
		if i := strings.IndexAny(rest, "/?#"); i >= 0 {
			host, path = rest[:i], rest[i:]
		}
		if k == URL && host == "" {
			return t, fmt.Errorf("url %q names no host", clip(value))
		}
		if i := strings.IndexByte(path, '#'); k == URL && i >= 0 {
			path = path[:i] // a client never sends its fragment
		}
		if k == URL && !strings.HasPrefix(path, "/") {
			path = "/" + path
		}
		if k == Prefix && path == "" && !isASCII(host) {
			return t, fmt.Errorf("prefix %q must have a / behind a host that is not ASCII", clip(value))
		}
		host, err := normalHost(host)
		if err != nil {
			return t, err
		}
		if k == URL || path != "" {
			host = TrimDefaultPort(scheme, host)
		}
		if scheme != "" {
			scheme += ":"
		}
		t.Value = scheme + "//" + host + path
		if len(t.Value) > maxValue {
			t.Kind, t.Value = Prefix, t.Value[:maxValue] // it selects more
		}
	case Host:
		if value == "" || len(value) > maxValue || strings.ContainsAny(value, "/ ") {
			return t, fmt.Errorf("host %q is not a host", clip(value))
		}
		var err error
		if t.Value, err = normalHost(value); err != nil {
			return t, err
		}
	case Tag:
		if value == "" || len(value) > maxValue {
			return t, fmt.Errorf("a tag has from 1 to %d bytes, not %d", maxValue, len(value))
		}
	case All, Begin, Mark, Return, Flush:
		t.Value = ""
	default:
		return t, fmt.Errorf("unknown %s", k)
	}
	return t, nil
}

// TrimDefaultPort returns host without ":80" for http and ":443" for https.
func TrimDefaultPort(scheme, host string) string {
	switch scheme {
	case "http":
		return strings.TrimSuffix(host, ":80")
	case "https":
		return strings.TrimSuffix(host, ":443")
	}
	return host
}

// splitScheme splits "https://host/path" in "https" and "host/path"; the
// scheme of "//host/path" is empty and means any.
func splitScheme(s string) (scheme, rest string, ok bool) {
	if rest, ok := strings.CutPrefix(s, "//"); ok {
		return "", rest, true
	}
	scheme, rest, ok = strings.Cut(s, "://")
	scheme = strings.ToLower(scheme)
	return scheme, rest, ok && (scheme == "http" || scheme == "https")
}

// clip keeps a quoted value short enough for one log line.
func clip(s string) string {
	if len(s) > 200 {
		return s[:200] + "…"
	}
	return s
}

// fits reports whether a target as it was read is one that this package makes:
// what has no bound is foreign.
func (t Target) fits() bool {
	return t.Kind >= 'a' && t.Kind <= 'z' && len(t.Value) <= maxValue
}

// seed makes the hashes of targets unpredictable from outside. Two targets
// with one hash only cost a forward: each then also selects what the other does.
var seed = maphash.MakeSeed()

// sum stands for a target in this process.
type sum uint64

// Two sums that differ in kindStep times something are of one value and two
// kinds; those that differ in softStep, of a target and the same one, soft.
const (
	kindStep sum = 0x9e3779b97f4a7c15
	softStep sum = 0xd6e8feb86659fd93
)

func sumOf(k Kind, value string) sum {
	return sum(maphash.String(seed, value)) ^ sum(k)*kindStep
}

func (t Target) sum() sum {
	if t.Soft {
		return sumOf(t.Kind, t.Value) ^ softStep
	}
	return sumOf(t.Kind, t.Value)
}

// Selectors are all that can select one stored response, made ready for
// lookups. The zero value is selected by All alone. Selectors are immutable.
type Selectors struct {
	urls [4]string // the URLs that prefixes are compared with: stored and asked, each with and without its scheme
	sums []sum     // URL, host and tag targets
}

// NewSelectors returns the selectors of a response to url (scheme, host, path
// and query as the client asked) with these tags.
func NewSelectors(url string, tags []string) Selectors {
	s := Selectors{sums: make([]sum, 0, 3+len(tags))}
	s.addURL(0, url)
	for _, tag := range tags {
		s.add(Tag, tag)
	}
	return s
}

// WithURL returns selectors that asked selects as well: a URL that reaches the
// same stored response by another name.
func (s Selectors) WithURL(asked string) Selectors {
	if asked == s.urls[0] {
		return s
	}
	s.sums = append(make([]sum, 0, len(s.sums)+3), s.sums...)
	s.addURL(2, asked)
	return s
}

func (s *Selectors) addURL(i int, url string) {
	_, rest, ok := strings.Cut(url, "://")
	if !ok {
		rest = strings.TrimPrefix(url, "//")
	}
	bare := url[len(url)-len(rest)-min(2, len(url)-len(rest)):]
	s.urls[i], s.urls[i+1] = url, bare
	host := rest
	if j := strings.IndexAny(rest, "/?"); j >= 0 {
		host = rest[:j]
	}
	s.add(URL, url)
	s.add(URL, bare)
	s.add(Host, host)
}

func (s *Selectors) add(k Kind, value string) {
	s.sums = append(s.sums, sumOf(k, value))
}
