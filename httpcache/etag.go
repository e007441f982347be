package httpcache

import (
	"net/http"
	"strings"
	"time"
)

// entityTag is an entity tag (RFC 9110, Section 8.8.3). Its opaque part has its quotes. Tags without quotes, which some
// origins send, are taken as they are. The zero value is none.
type entityTag struct {
	opaque string
	weak   bool
}

// etagOf returns the entity tag of a response.
func etagOf(h http.Header) entityTag {
	lines := h["Etag"]
	if len(lines) == 0 {
		return entityTag{}
	}
	return parseETag(strings.Trim(lines[0], " \t"))
}

// parseETag parses one entity tag.
func parseETag(s string) entityTag {
	if opaque, ok := strings.CutPrefix(s, "W/"); ok {
		return entityTag{opaque: opaque, weak: true}
	}
	return entityTag{opaque: s}
}

// is reports whether there is a tag.
func (e entityTag) is() bool { return e.opaque != "" }

// isStrong reports whether there is a tag, and one that names the bytes.
func (e entityTag) isStrong() bool { return e.is() && !e.weak }

// weakly reports whether both are tags of equivalent representations; strongly, of identical ones.
// RFC 9110, Section 8.8.3.2.
func (e entityTag) weakly(f entityTag) bool   { return e.is() && e.opaque == f.opaque }
func (e entityTag) strongly(f entityTag) bool { return e.isStrong() && e == f }

// listsETag reports whether the lines of an If-None-Match name the tag, by weak comparison, or are "*".
// tag may be none.
func listsETag(lines []string, tag entityTag) bool {
	for _, line := range lines {
		for line != "" {
			n := etagLen(line)
			member := strings.Trim(line[:n], " \t")
			if member == "*" || tag.weakly(parseETag(member)) {
				return true
			}
			line = line[min(n+1, len(line)):]
		}
	}
	return false
}

// etagLen returns the length of the list member that s starts with, up to a comma outside of quotes. There are no
// escapes in entity tags.
func etagLen(s string) int {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '"':
			quoted = !quoted
		case ',':
			if !quoted {
				return i
			}
		}
	}
	return len(s)
}

// hasValidator reports whether the response has a validator among the fields that are stored.
func hasValidator(h http.Header, now time.Time, dropped []string) bool {
	if etagOf(h).is() && !containsFold(dropped, "Etag") {
		return true
	}
	_, ok := dateField(h, "Last-Modified", now)
	return ok && !containsFold(dropped, "Last-Modified")
}
