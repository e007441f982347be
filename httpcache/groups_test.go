package httpcache

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// RFC 9875, Sections 2 and 3.
func TestCacheGroups(t *testing.T) {
	for _, row := range []struct {
		name  string
		lines []string
		want  []string
	}{
		{"none", nil, nil},
		{"one", []string{`: "a"`}, []string{"a"}},
		{"several", []string{`: "b", "a"`}, []string{"a", "b"}},
		{"lines", []string{`: "a"`, `: "b"`}, []string{"a", "b"}},
		{"twice", []string{`: "a", "a"`}, []string{"a"}},
		{"case", []string{`: "a", "A"`}, []string{"A", "a"}},
		{"parameters", []string{`: "a";revalidate, "b";x=1`}, []string{"a", "b"}},
		{"escaped", []string{`: "a\"b"`}, []string{`a"b`}},
		{"token", []string{`: "a", b`}, nil},
		{"inner list", []string{`: "a", ("b")`}, nil},
		{"no list", []string{`: "a" "b"`}, nil},
		{"empty", []string{":"}, nil},
	} {
		var lines, invalidation []string
		for _, line := range row.lines {
			lines = append(lines, "Cache-Groups"+line)
			invalidation = append(invalidation, "Cache-Group-Invalidation"+line)
		}
		if got := CacheGroups(header(lines...)); !slices.Equal(got, row.want) {
			t.Errorf("%s: got %q, want %q", row.name, got, row.want)
		}
		if got := CacheGroupInvalidation(header(invalidation...)); !slices.Equal(got, row.want) {
			t.Errorf("%s: invalidation: got %q, want %q", row.name, got, row.want)
		}
	}
}

// RFC 9875, Section 2: 32 groups of 32 characters, and more, are supported.
func TestManyCacheGroups(t *testing.T) {
	var list []string
	for i := range 128 {
		list = append(list, fmt.Sprintf("%q", strings.Repeat("x", 60)+fmt.Sprint(i)))
	}
	equal(t, "groups", len(CacheGroups(header("Cache-Groups: "+strings.Join(list, ", ")))), 128)
}

func TestTags(t *testing.T) {
	for _, row := range []struct {
		name  string
		lines []string
		want  []string
	}{
		{"none", nil, nil},
		{"Surrogate-Key", []string{"Surrogate-Key: b  a\tc"}, []string{"b", "a", "c"}},
		{"Surrogate-Key with a comma", []string{"Surrogate-Key: a,b"}, []string{"a,b"}},
		{"Cache-Tag", []string{"Cache-Tag: a, b c ,,d"}, []string{"a", "b c", "d"}},
		{"another", []string{"xkey: a, b c"}, []string{"a", "b", "c"}},
		{"all, each once", []string{"Cache-Tag: b, a", "Cache-Tag: c", "Surrogate-Key: a b d"}, []string{"a", "b", "d", "c"}},
		{"too long", []string{"Surrogate-Key: a " + strings.Repeat("x", MaxTagLen+1)}, []string{"a"}},
	} {
		got := Tags(header(row.lines...), []string{"surrogate-key", "Cache-Tag", "xkey"})
		if !slices.Equal(got, row.want) {
			t.Errorf("%s: got %q, want %q", row.name, got, row.want)
		}
	}
}

func TestManyTags(t *testing.T) {
	var b strings.Builder
	for i := range 3 * MaxTags {
		fmt.Fprintf(&b, "%d ", i%MaxTags)
	}
	fields := []string{"Surrogate-Key"}
	h := header("Surrogate-Key: " + b.String())
	equal(t, "tags", len(Tags(h, fields)), MaxTags)
	equal(t, "fit", TagsFit(h, fields), true)
	h.Add("Surrogate-Key", "one-more")
	equal(t, "tags", len(Tags(h, fields)), MaxTags)
	equal(t, "one more fits", TagsFit(h, fields), false)
	equal(t, "too long", TagsFit(header("Surrogate-Key: "+strings.Repeat("x", MaxTagLen+1)), fields), false)
}
