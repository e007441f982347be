package httpcache

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// fullWeight is the weight of what has none, in thousandths. RFC 9110, Section 12.4.2.
const fullWeight = 1000

// weighted is a member of a field like Accept-Language: what is accepted, in lower case, and its weight in thousandths.
type weighted struct {
	value  string
	weight int
}

// equalWeights says what the order of members of the same weight means.
type equalWeights bool

const (
	anyOrder equalWeights = false // nothing: Accept-Encoding
	inOrder  equalWeights = true  // the first is liked best: Accept-Language, RFC 9110, Section 12.5.4
)

// normalWeights returns the members by weight, the heaviest first, with their weights in the shortest form.
func normalWeights(lines []string, equal equalWeights) string {
	var buf [8]weighted // most requests name fewer: they cost one allocation, that of the result
	members, size := parseWeights(buf[:0], lines)
	slices.SortStableFunc(members, func(a, b weighted) int {
		if a.weight != b.weight || equal == inOrder {
			return b.weight - a.weight
		}
		return cmp.Compare(a.value, b.value)
	})
	members = slices.Compact(members)
	if len(members) == 1 && members[0].weight == fullWeight {
		return members[0].value
	}
	b := make([]byte, 0, size)
	for i, m := range members {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = append(b, m.value...)
		if m.weight != fullWeight {
			b = append(b, ";q="...)
			b = strconv.AppendFloat(b, float64(m.weight)/fullWeight, 'f', -1, 64)
		}
	}
	return string(b)
}

// parseWeights appends the members of the lines to members, and returns how many bytes their normal form has at most.
// One with a weight that is none, or with other parameters, stands for itself as a whole.
func parseWeights(members []weighted, lines []string) (_ []weighted, size int) {
	for _, line := range lines {
		for s := range strings.SplitSeq(line, ",") {
			if s = strings.ToLower(strings.Trim(s, " \t")); s == "" {
				continue
			}
			m := weighted{value: s, weight: fullWeight}
			if value, q, ok := strings.Cut(s, ";"); ok {
				if weight, ok := parseWeight(strings.Trim(q, " \t")); ok {
					m = weighted{value: strings.TrimRight(value, " \t"), weight: weight}
				}
			}
			members = append(members, m)
			size += len(", ") + len(s)
		}
	}
	return members, size
}

// parseWeight parses "q=" and a number from 0 to 1 with up to three decimals, as thousandths.
func parseWeight(s string) (thousandths int, ok bool) {
	s, ok = strings.CutPrefix(s, "q=")
	if !ok || s == "" || s[0] != '0' && s[0] != '1' {
		return 0, false
	}
	thousandths = int(s[0]-'0') * fullWeight
	if s = s[1:]; s == "" {
		return thousandths, true
	}
	if s[0] != '.' || len(s) > 4 {
		return 0, false
	}
	for i, unit := 1, 100; i < len(s); i, unit = i+1, unit/10 {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		thousandths += int(s[i]-'0') * unit
	}
	return thousandths, thousandths <= fullWeight
}

// maxAcceptLanguage bounds the values by which a language is selected.
const maxAcceptLanguage = 512

// LanguageSelected reports whether a stored response in the language contentLanguage is the one that a request with
// the value acceptLanguage likes best: of the ranges that it names, the one of the highest weight, the first of equals,
// is the one that selects the language (RFC 9110, Section 12.5.4; basic filtering of RFC 4647, Section 3.3.1).
//
// It is sure or says no: a response in several languages, or none, is never selected, nor is any by "*", nor by a value
// that is longer than people's are: it is read anew for each variant that there is.
func LanguageSelected(acceptLanguage, contentLanguage string) bool {
	if len(acceptLanguage) > maxAcceptLanguage {
		return false
	}
	language := strings.ToLower(strings.Trim(contentLanguage, " \t"))
	if language == "" || strings.ContainsAny(language, ", ;*") {
		return false
	}
	var best, selecting weighted // the one liked best; of those that match, the most specific
	members, _ := parseWeights(nil, []string{acceptLanguage})
	for _, m := range members {
		if m.weight > best.weight {
			best = m
		}
		if rangeMatches(m.value, language) && len(m.value) > len(selecting.value) {
			selecting = m
		}
	}
	return best.weight > 0 && best.value != "*" && selecting == best
}

// rangeMatches reports whether the language range selects the tag. RFC 4647, Section 3.3.1. Both are in lower case.
func rangeMatches(r, tag string) bool {
	return r == tag || strings.HasPrefix(tag, r) && tag[len(r)] == '-'
}
