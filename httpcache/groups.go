package httpcache

import (
	"net/http"
	"slices"

	"github.com/dunglas/httpsfv"
)

// CacheGroups returns the groups that a response belongs to, each once. RFC 9875, Section 2.
// Groups are per origin: the same name on another origin is another group.
func CacheGroups(h http.Header) []string { return readGroups(h["Cache-Groups"]) }

// CacheGroupInvalidation returns the groups that a response invalidates, if its request was unsafe; on others the field
// does not count, which is for the caller to see to. RFC 9875, Section 3.
func CacheGroupInvalidation(h http.Header) []string { return readGroups(h["Cache-Group-Invalidation"]) }

// readGroups parses a List of Strings. A list that is none, or has anything else in it, is as if it were not there.
// Parameters have no meaning. RFC 9875, Section 2: 32 groups of 32 characters is the least to be supported.
func readGroups(lines []string) []string {
	if len(lines) == 0 {
		return nil
	}
	list, err := httpsfv.UnmarshalList(lines)
	if err != nil {
		return nil
	}
	groups := make([]string, 0, min(len(list), MaxTags))
	for _, member := range list {
		item, ok := member.(httpsfv.Item)
		if !ok {
			return nil
		}
		group, ok := item.Value.(string)
		if !ok {
			return nil
		}
		if len(group) <= MaxTagLen && len(groups) < MaxTags {
			groups = append(groups, group)
		}
	}
	slices.Sort(groups)
	return slices.Compact(groups)
}
