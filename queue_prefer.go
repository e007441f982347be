package fluster

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// preferences are what a request says in Prefer, as far as a queue can heed it. RFC 7240.
type preferences struct {
	async bool          // respond-async: 202 will do
	wait  time.Duration // wait: how long the client likes to wait; 0: it does not say
}

// maxPreferences bounds how many preferences are looked at.
const maxPreferences = 64

// readPreferences reads the Prefer fields. Of a preference that stands twice the
// first one counts; those that are not known, or not well-formed, are ignored.
func readPreferences(h http.Header) (p preferences) {
	seen := map[string]bool{}
	for _, line := range h["Prefer"] {
		for line != "" && len(seen) < maxPreferences {
			var preference string
			preference, line = cutOutsideQuotes(line, ',')
			first, _ := cutOutsideQuotes(preference, ';') // parameters follow
			name, value, _ := strings.Cut(first, "=")
			name, value = strings.ToLower(strings.Trim(name, " \t")), unquote(strings.Trim(value, " \t"))
			if name == "" || seen[name] {
				continue
			}
			seen[name] = true
			switch name {
			case "respond-async":
				p.async = value == ""
			case "wait":
				if n, err := strconv.ParseUint(value, 10, 31); err == nil {
					p.wait = time.Duration(n) * time.Second
				}
			}
		}
	}
	return p
}

// applied is Preference-Applied for those that were heeded.
func (p preferences) applied() string {
	var words []string
	if p.async {
		words = append(words, "respond-async")
	}
	if p.wait > 0 {
		words = append(words, "wait="+strconv.Itoa(int(p.wait/time.Second)))
	}
	return strings.Join(words, ", ")
}

// cutOutsideQuotes cuts s at the first sep that stands in no quoted string.
func cutOutsideQuotes(s string, sep byte) (before, after string) {
	isQuoted := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			isQuoted = !isQuoted
		case c == '\\' && isQuoted:
			i++
		case c == sep && !isQuoted:
			return s[:i], s[i+1:]
		}
	}
	return s, ""
}

// unquote returns what a quoted string stands for, and another one as it is.
func unquote(s string) string {
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return s
	}
	var b strings.Builder
	for i := 1; i < len(s)-1; i++ {
		if s[i] == '\\' && i < len(s)-2 {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
