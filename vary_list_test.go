package fluster

import (
	"fmt"
	"strings"
	"testing"

	"github.com/caddy-fluster/caddy-fluster/stored"
)

// TestListOfLongVariants: C5. The list of a URL's variants does not grow by what clients
// send; the newest is always in it.
func TestListOfLongVariants(t *testing.T) {
	for _, tt := range []struct{ length, want int }{{10, stored.MaxVariants}, {5 << 10, 6}, {100 << 10, 1}} {
		var list *entry
		for i := range 2 * stored.MaxVariants {
			f := []stored.Field{{Name: "x", Value: fmt.Sprint(i) + strings.Repeat("x", tt.length)}}
			v := stored.Variant{Nominated: f, Key: variantKey("http://example.test/", f), Stored: int64(i)}
			if list = list.with("http://example.test/", v); list.variants.List[0].Key != v.Key {
				t.Fatalf("%d variants of %d bytes: the newest is not the first", i+1, tt.length)
			}
		}
		if got := len(list.variants.List); got != tt.want {
			t.Errorf("variants of %d bytes: got %d, want %d", tt.length, got, tt.want)
		}
	}
}
