package fluster_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
)

// TestJoinedPartsAreBounded: C5. Clients that read nothing want a stored part and a little
// more, each another little. What was joined for them is in memory until they have it, so
// there is room for so many; the others get it from the origin, and are served as well.
func TestJoinedPartsAreBounded(t *testing.T) {
	const clients, length, most = 24, 7 << 20, 14 // 64 MiB have room for 9; what sockets take whole is in no memory
	body := bodyOf(length + 1000)
	var joins atomic.Int64
	o := caddytest.NewOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("If-Range") != "" {
			joins.Add(1)
		}
		w.Header().Set("Cache-Control", "max-age=600")
		w.Header().Set("Etag", `"1"`)
		http.ServeContent(w, r, "x.bin", time.Time{}, bytes.NewReader(body))
	})
	c := caddytest.Load(t, "", cached(o))
	if r := c.Get("/", "Range", fmt.Sprintf("bytes=0-%d", length-1)); r.Status != http.StatusPartialContent {
		t.Fatalf("got %v, want a part", r)
	}
	ctx := testContext(t)
	var open []*http.Response
	for i := range clients {
		resp := c.Open(ctx, "/", "Range", fmt.Sprintf("bytes=0-%d", length+10*i))
		defer resp.Body.Close()
		open = append(open, resp)
	}
	if got := joins.Load(); got < 1 || got > most {
		t.Errorf("%d joined parts are in memory, want at most %d", got, most)
	}
	for i, resp := range open {
		if got, err := io.ReadAll(resp.Body); err != nil || !bytes.Equal(got, body[:length+10*i+1]) {
			t.Errorf("client %d: got %d bytes, %v, want %d", i, len(got), err, length+10*i+1)
		}
	}
}
