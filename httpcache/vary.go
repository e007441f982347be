package httpcache

import (
	"net/http"
	"slices"
	"strings"
)

// maxNominated bounds the fields that a Vary may name. More than that never matches twice.
const maxNominated = 64

// nominated returns the names of the request fields that Vary names: lower case, sorted, each once. ok is false if the
// response is for one request only: "*" on any line and in any place, a name that no request field can have, or the
// address of the client, which is told to the origin behind the cache. RFC 9111, Section 4.1; RFC 9110, Section 12.5.5.
func nominated(h http.Header) (names []string, ok bool) {
	for _, line := range h["Vary"] {
		for name := range strings.SplitSeq(line, ",") {
			name = strings.Trim(name, " \t")
			if name == "" {
				continue
			}
			if name == "*" || !isToken(name) || strings.EqualFold(name, "X-Forwarded-For") {
				return nil, false
			}
			names = append(names, strings.ToLower(name))
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	return names, len(names) <= maxNominated
}

// NominatedValue returns the request's value of a selecting field in the normal form of RFC 9111, Section 4.1: two
// requests match in the field if, and only if, their values are equal.
//
// The value of a field that is not there is "". That of one that is there but empty is " ", which is another thing to
// Accept-Encoding. Lines are combined, and white space between the members of a list does not count.
// For Accept-Encoding and Accept-Language, whose meaning is known, neither do case and order, weights do.
func NominatedValue(name string, h http.Header) string {
	name = http.CanonicalHeaderKey(name)
	lines := h[name]
	if len(lines) == 0 {
		return ""
	}
	var value string
	switch name {
	case "Accept-Encoding":
		value = normalWeights(lines, anyOrder)
	case "Accept-Language":
		value = normalWeights(lines, inOrder)
	case "Cookie":
		// RFC 9113, Section 8.2.3: HTTP/2 may split it at its semicolons.
		value = strings.Join(lines, "; ")
	case "Authorization", "User-Agent", "Referer", "Origin", "Host", "From":
		value = strings.Join(lines, ", ") // no lists: a comma and a space in them have no meaning that we know
	default:
		value = normalList(lines)
	}
	if value = strings.Trim(value, " \t"); value == "" {
		return " "
	}
	return value
}

// normalList returns the members of the lines of a list field, separated by a comma and a space. What is quoted stays as
// it is. So do empty members: RFC 9110, Section 5.6.1.2, makes them nothing in a list, but nobody knows whether the field
// is one, and what "a," gets would else be given to all who ask for "a".
func normalList(lines []string) string {
	if len(lines) == 1 && strings.IndexByte(lines[0], ',') < 0 {
		return lines[0]
	}
	var b strings.Builder
	for i, line := range lines {
		if i > 0 {
			b.WriteString(", ")
		}
		var quoted quotedStrings
		for {
			n := memberLen(line, &quoted)
			b.WriteString(strings.Trim(line[:n], " \t"))
			if n == len(line) {
				break
			}
			b.WriteString(", ")
			line = line[n+1:]
		}
	}
	return b.String()
}

// memberLen returns the length of the list member that s, what is left of a line, starts with: up to a comma that is not
// quoted.
func memberLen(s string, quoted *quotedStrings) int {
	for i := 0; i < len(s); {
		switch s[i] {
		case ',':
			return i
		case '"':
			i += max(quoted.len(s[i:]), 1)
		default:
			i++
		}
	}
	return len(s)
}
