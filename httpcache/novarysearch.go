package httpcache

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/dunglas/httpsfv"
)

// SearchVariance is which differences between queries make a difference to a stored response.
// draft-ietf-httpbis-no-vary-search, Section 4. The zero value is the default: all do. It is read only.
type SearchVariance struct {
	ignoreOrder bool
	wildcard    bool                // parameters do not count, but those of named
	named       map[string]struct{} // without wildcard: those that do not count
}

// ParseNoVarySearch returns the variance that the No-Vary-Search field of a response gives it. A field that is not
// entirely understood gives the default one; members that are unknown are ignored. Section 5.1 of the draft.
func ParseNoVarySearch(h http.Header) SearchVariance {
	lines := h["No-Vary-Search"]
	if len(lines) == 0 {
		return SearchVariance{}
	}
	dict, err := httpsfv.UnmarshalDictionary(lines)
	if err != nil {
		return SearchVariance{}
	}
	var v SearchVariance
	if member, ok := dict.Get("key-order"); ok {
		if v.ignoreOrder, ok = boolean(member); !ok {
			return SearchVariance{}
		}
	}
	if member, ok := dict.Get("params"); ok {
		if v.wildcard, ok = boolean(member); !ok {
			if v.named, ok = keySet(member); !ok {
				return SearchVariance{}
			}
		}
	}
	if member, ok := dict.Get("except"); ok {
		if !v.wildcard {
			return SearchVariance{}
		}
		if v.named, ok = keySet(member); !ok {
			return SearchVariance{}
		}
	}
	return v
}

// IsDefault reports whether only queries that are the same, byte by byte, match.
func (v SearchVariance) IsDefault() bool { return !v.ignoreOrder && !v.wildcard && len(v.named) == 0 }

// Match reports whether two raw queries, without "?", are equivalent. Section 6 of the draft.
func (v SearchVariance) Match(a, b string) bool { return v.Canonical(a) == v.Canonical(b) }

// Canonical returns the form of a raw query that all equivalent queries, and no others, have. Under the default variance
// it is the query itself.
func (v SearchVariance) Canonical(query string) string {
	if v.IsDefault() {
		return query
	}
	var pairs []searchPair
	for pair := range strings.SplitSeq(query, "&") {
		if pair == "" {
			continue
		}
		key, value, _ := strings.Cut(pair, "=")
		p := searchPair{decodeComponent(key), decodeComponent(value)}
		if _, named := v.named[p.key]; named == v.wildcard {
			pairs = append(pairs, p)
		}
	}
	if v.ignoreOrder {
		// Stable: the order of the values of one key always counts.
		slices.SortStableFunc(pairs, func(a, b searchPair) int { return cmp.Compare(a.key, b.key) })
	}
	var b strings.Builder
	for i, p := range pairs {
		if i > 0 {
			b.WriteByte('&')
		}
		b.WriteString(url.QueryEscape(p.key))
		b.WriteByte('=')
		b.WriteString(url.QueryEscape(p.value))
	}
	return b.String()
}

// searchPair is a parameter of a query, decoded.
type searchPair struct{ key, value string }

// boolean returns the member's value, if it is a Boolean.
func boolean(member httpsfv.Member) (value, ok bool) {
	item, ok := member.(httpsfv.Item)
	if !ok {
		return false, false
	}
	value, ok = item.Value.(bool)
	return value, ok
}

// keySet returns the keys that the member lists, if it is an Inner List of Strings.
func keySet(member httpsfv.Member) (keys map[string]struct{}, ok bool) {
	list, ok := member.(httpsfv.InnerList)
	if !ok {
		return nil, false
	}
	keys = make(map[string]struct{}, len(list.Items))
	for _, item := range list.Items {
		key, ok := item.Value.(string)
		if !ok {
			return nil, false
		}
		keys[decodeComponent(key)] = struct{}{}
	}
	return keys, true
}

// decodeComponent decodes a key or value of application/x-www-form-urlencoded: "+" is a space, a "%" that starts no
// escape is itself, and what is not UTF-8 becomes U+FFFD. It never fails, as the URL Standard has it.
func decodeComponent(s string) string {
	if strings.IndexByte(s, '%') < 0 && strings.IndexByte(s, '+') < 0 && utf8.ValidString(s) {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '+':
			c = ' '
		case c == '%' && i+2 < len(s):
			hi, lo := unhex(s[i+1]), unhex(s[i+2])
			if hi >= 0 && lo >= 0 {
				c = byte(hi<<4 | lo)
				i += 2
			}
		}
		b = append(b, c)
	}
	if utf8.Valid(b) {
		return string(b)
	}
	return string([]rune(string(b)))
}

// unhex returns the value of a hexadecimal digit, or −1.
func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c - 'a' + 10)
	case 'A' <= c && c <= 'F':
		return int(c - 'A' + 10)
	}
	return -1
}
