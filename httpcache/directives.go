package httpcache

import (
	"net/http"
	"net/textproto"
	"strings"
)

// absent is the value of a numeric directive that was not given.
const absent int64 = -1

// maxDelta is the largest number of seconds that is told apart. RFC 9111, Section 1.2.2.
const maxDelta int64 = 1 << 31

// parseDelta parses delta-seconds: digits and nothing else. What is larger than maxDelta is maxDelta.
func parseDelta(s string) (seconds int64, ok bool) {
	if s == "" {
		return 0, false
	}
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		// Saturating here also keeps a million digits from overflowing.
		seconds = min(seconds*10+int64(s[i]-'0'), maxDelta)
	}
	return seconds, true
}

// responseDirectives are the cache directives of a response (RFC 9111, Section 5.2.2; RFC 5861; RFC 8246).
type responseDirectives struct {
	noStore, noCache, private, public bool // noCache and private: the unqualified forms
	mustRevalidate, proxyRevalidate   bool
	mustUnderstand, immutable         bool

	maxAge, sMaxAge, swr, sie int64    // seconds, or absent; 0 where the argument is invalid
	badSMaxAge                bool     // s-maxage was there, but its argument is invalid
	fields                    []string // canonical names of the fields in the qualified forms of no-cache and private
	targeted                  bool     // they come from a targeted field: Expires does not count
}

// parseResponseDirectives parses the lines of a Cache-Control field of a response.
func parseResponseDirectives(lines []string) responseDirectives {
	d := responseDirectives{maxAge: absent, sMaxAge: absent, swr: absent, sie: absent}
	s := directiveScanner{lines: lines}
	for s.next() {
		d.set(&s.directive)
	}
	return d
}

// set takes one directive over. What forbids is taken even when it is malformed, what permits is not.
func (d *responseDirectives) set(x *directive) {
	switch strings.ToLower(x.name) {
	case "no-store":
		d.noStore = true
	case "no-cache":
		d.noCache = d.addFields(x) || d.noCache
	case "private":
		d.private = d.addFields(x) || d.private
	case "must-revalidate":
		d.mustRevalidate = true
	case "proxy-revalidate":
		d.proxyRevalidate = true
	case "public":
		d.public = d.public || !x.malformed
	case "must-understand":
		d.mustUnderstand = d.mustUnderstand || !x.malformed
	case "immutable":
		d.immutable = d.immutable || !x.malformed
	case "max-age":
		setDelta(&d.maxAge, x)
	case "s-maxage":
		d.badSMaxAge = !setDelta(&d.sMaxAge, x) || d.badSMaxAge
	case "stale-while-revalidate":
		setDelta(&d.swr, x)
	case "stale-if-error":
		setDelta(&d.sie, x)
	}
}

// setDelta sets dst to the directive's seconds, and reports whether they were valid.
//
// RFC 9111, Section 4.2.1: of conflicting directives the most restrictive is honored, and what is invalid is stale.
func setDelta(dst *int64, x *directive) bool {
	seconds, ok := parseDelta(x.arg)
	if x.malformed || !ok {
		seconds, ok = 0, false
	}
	if *dst == absent || seconds < *dst {
		*dst = seconds
	}
	return ok
}

// addFields adds the fields that a qualified no-cache or private names, and reports whether the directive has to be
// taken as unqualified: it names none, or something that is no field name, or a field without which the stored response
// would not be understood.
func (d *responseDirectives) addFields(x *directive) (unqualified bool) {
	if !x.hasArg || x.malformed {
		return true
	}
	n := len(d.fields)
	for name := range strings.SplitSeq(x.arg, ",") {
		name = textproto.TrimString(name)
		if name == "" {
			continue
		}
		if !isToken(name) {
			return true
		}
		switch name = http.CanonicalHeaderKey(name); name {
		case "Content-Encoding", "Content-Range", "Content-Type", "Vary":
			return true
		}
		d.fields = append(d.fields, name)
	}
	return len(d.fields) == n
}

// directive is one cache directive: a name, and an argument that was a token or, unquoted here, a quoted string.
type directive struct {
	name, arg string
	hasArg    bool
	malformed bool // there is more to it than the grammar allows
}

// directiveScanner reads the directives of the lines of a field, one by one. A line ends a directive, whatever is open.
type directiveScanner struct {
	directive
	lines  []string
	rest   string // what is left of the line in work
	quoted quotedStrings
}

// next reads the next directive and reports whether there was one. RFC 9111, Section 5.2:
//
//	cache-directive = token [ "=" ( token / quoted-string ) ]
func (s *directiveScanner) next() bool {
	for {
		s.rest = strings.TrimLeft(s.rest, ", \t")
		if s.rest == "" {
			if len(s.lines) == 0 {
				return false
			}
			s.rest, s.lines, s.quoted = s.lines[0], s.lines[1:], quotedStrings{}
			continue
		}
		n := tokenLen(s.rest)
		s.directive = directive{name: s.rest[:n]}
		s.rest = s.rest[n:]
		blank := len(s.rest)
		s.rest = strings.TrimLeft(s.rest, " \t")
		if strings.HasPrefix(s.rest, "=") {
			s.malformed = blank != len(s.rest)
			s.readArgument()
		}
		if s.skipToComma() {
			s.malformed = true
		}
		if s.name != "" {
			return true
		}
	}
}

// readArgument reads the argument whose "=" comes next.
func (s *directiveScanner) readArgument() {
	s.hasArg = true
	s.rest = s.rest[1:]
	if strings.HasPrefix(s.rest, `"`) {
		if n := s.quoted.len(s.rest); n > 0 {
			s.arg, s.rest = unquote(s.rest[:n]), s.rest[n:]
			return
		}
	}
	n := tokenLen(s.rest)
	s.arg, s.rest = s.rest[:n], s.rest[n:]
	s.malformed = s.malformed || n == 0
}

// skipToComma skips what is left of the directive, and reports whether that was more than white space.
func (s *directiveScanner) skipToComma() (junk bool) {
	for s.rest != "" && s.rest[0] != ',' {
		n := 1
		if s.rest[0] == '"' {
			// What looks like directives inside quotes is none. A quote that is never closed hides nothing.
			n = max(s.quoted.len(s.rest), 1)
		}
		junk = junk || s.rest[0] != ' ' && s.rest[0] != '\t'
		s.rest = s.rest[n:]
	}
	return junk
}

// quotedStrings finds the quoted strings of one line, from its beginning to its end. Behind a quote that is never closed
// there are none: every further quote stands behind a backslash, and finds none that closes it either. To look for it each
// time would take as many steps as the square of the line's length.
type quotedStrings struct{ over bool }

// len returns the length of the quoted string that s, what is left of the line, starts with, quotes included, or 0 if it
// does not end.
func (q *quotedStrings) len(s string) int {
	if q.over {
		return 0
	}
	n := quotedLen(s)
	q.over = n == 0
	return n
}

// quotedLen returns the length of the quoted string that s starts with, quotes included, or 0 if it does not end.
func quotedLen(s string) int {
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return 0
}

// unquote returns what the quoted string s, quotes included, stands for. RFC 9110, Section 5.6.4.
func unquote(s string) string {
	s = s[1 : len(s)-1]
	if !strings.Contains(s, `\`) {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b = append(b, s[i])
	}
	return string(b)
}

// tokenLen returns the length of the token that s starts with. RFC 9110, Section 5.6.2.
func tokenLen(s string) int {
	for i := 0; i < len(s); i++ {
		if !isTokenByte(s[i]) {
			return i
		}
	}
	return len(s)
}

// isToken reports whether s is a token.
func isToken(s string) bool { return s != "" && tokenLen(s) == len(s) }

func isTokenByte(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return c != 0 && strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}
