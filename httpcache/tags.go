package httpcache

import (
	"net/http"
	"slices"
	"strings"
)

const (
	// MaxTags is how many tags of a response count.
	MaxTags = 1024
	// MaxTagLen is how many bytes a tag has at most. A longer one is none.
	MaxTagLen = 1024
)

// Tags returns the tags that the fields of the response give it, each once, in the order they come. Surrogate-Key
// separates them by spaces, Cache-Tag by commas, any other field by either.
func Tags(h http.Header, fields []string) []string {
	tags, _ := readTags(h, fields)
	return tags
}

// TagsFit reports whether Tags returns all tags there are. A response that has more, or longer ones, could not be
// invalidated by those, and should not be stored.
func TagsFit(h http.Header, fields []string) bool {
	_, fit := readTags(h, fields)
	return fit
}

func readTags(h http.Header, fields []string) (tags []string, fit bool) {
	fit = true
	var seen map[string]struct{} // only for more tags than a look through the slice is quicker for
	for _, field := range fields {
		field = http.CanonicalHeaderKey(field)
		separators := " \t,"
		switch field {
		case "Surrogate-Key":
			separators = " \t"
		case "Cache-Tag":
			separators = ","
		}
		for _, line := range h[field] {
			for tag := range strings.FieldsFuncSeq(line, func(r rune) bool { return strings.ContainsRune(separators, r) }) {
				tag = strings.Trim(tag, " \t")
				if tag == "" || isSeen(&seen, tags, tag) {
					continue
				}
				if len(tag) > MaxTagLen || len(tags) == MaxTags {
					fit = false
					continue
				}
				tags = append(tags, tag)
			}
		}
	}
	return tags, fit
}

// isSeen reports whether tag is among tags.
func isSeen(seen *map[string]struct{}, tags []string, tag string) bool {
	if len(tags) < 16 {
		return slices.Contains(tags, tag)
	}
	if *seen == nil {
		*seen = make(map[string]struct{}, 64)
	}
	for i := len(*seen); i < len(tags); i++ {
		(*seen)[tags[i]] = struct{}{}
	}
	_, ok := (*seen)[tag]
	return ok
}
