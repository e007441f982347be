package httpcache

import (
	"testing"
	"time"

	"github.com/dunglas/httpsfv"
)

// RFC 9211, Section 2.
func TestCacheStatusAppend(t *testing.T) {
	for _, row := range []struct {
		name   string
		status CacheStatus
		want   string
	}{
		{"nothing", CacheStatus{}, "fluster"},
		{"hit", CacheStatus{Hit: true, TTL: 287 * time.Second, HasTTL: true, Detail: "near"}, "fluster; hit; ttl=287; detail=near"},
		{"stale hit", CacheStatus{Hit: true, TTL: -11500 * time.Millisecond, HasTTL: true}, "fluster; hit; ttl=-12"},
		{"just stale", CacheStatus{Hit: true, TTL: -time.Millisecond, HasTTL: true}, "fluster; hit; ttl=-1"},
		{"just fresh", CacheStatus{Hit: true, TTL: time.Millisecond, HasTTL: true}, "fluster; hit; ttl=0"},
		{"stored", CacheStatus{Fwd: "uri-miss", FwdStatus: 200, Stored: true}, "fluster; fwd=uri-miss; fwd-status=200; stored"},
		{"collapsed", CacheStatus{Fwd: "uri-miss", FwdStatus: 200, Collapsed: true}, "fluster; fwd=uri-miss; fwd-status=200; collapsed"},
		{"not stored", CacheStatus{Fwd: "uri-miss", FwdStatus: 200, Detail: "set-cookie"}, "fluster; fwd=uri-miss; fwd-status=200; detail=set-cookie"},
		{"hit forwards nothing", CacheStatus{Hit: true, Fwd: "stale", FwdStatus: 304}, "fluster; hit"},
		{"all", CacheStatus{Fwd: "stale", FwdStatus: 304, TTL: time.Second, HasTTL: true, Stored: true, Collapsed: true, Key: "k", Detail: "a b"},
			`fluster; fwd=stale; fwd-status=304; ttl=1; stored; collapsed; key="k"; detail="a b"`},
		{"quotes", CacheStatus{Detail: `a"b\c`}, `fluster; detail="a\"b\\c"`},
		{"not ASCII", CacheStatus{Key: "/é\n"}, `fluster; key="/%C3%A9%0A"`},
		{"token of other letters", CacheStatus{Detail: "a/b:c*"}, "fluster; detail=a/b:c*"},
		{"digit first", CacheStatus{Detail: "1a"}, `fluster; detail="1a"`},
	} {
		got := string(row.status.Append([]byte("x, "), "fluster"))
		equal(t, row.name, got, "x, "+row.want)
		if _, err := httpsfv.UnmarshalList([]string{got}); err != nil {
			t.Errorf("%s: %q is no List: %v", row.name, got, err)
		}
	}
	equal(t, "a name that is no token", string(CacheStatus{Hit: true}.Append(nil, "a b")), `"a b"; hit`)
}
