package chaos

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// pages is how many URLs there are: /u/0, /u/1 and so on.
const pages = 48

// An origin says for each page which version of it there is, and keeps book of
// what it has said. It is safe for concurrent use.
type origin struct {
	server *httptest.Server
	addr   string

	mu      sync.Mutex // guards all below
	version [pages]int
	said    [pages]map[int]time.Time // when it last said that this is the version
	failing bool
	fails   [][2]time.Time // the times in which it failed; an end of zero is to come
	asked   int
}

func newOrigin(tb testing.TB) *origin {
	o := &origin{}
	for i := range pages {
		o.version[i], o.said[i] = 1, map[int]time.Time{}
	}
	o.server = httptest.NewServer(o)
	o.addr = strings.TrimPrefix(o.server.URL, "http://")
	tb.Cleanup(func() {
		o.server.CloseClientConnections()
		o.server.Close()
	})
	return o
}

// ServeHTTP answers with the version that there is.
func (o *origin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var page int
	if n, _ := fmt.Sscanf(r.URL.Path, "/u/%d", &page); n != 1 || page < 0 || page >= pages {
		w.Header().Set("Cache-Control", "no-store")
		fmt.Fprintln(w, "beat")
		return
	}
	o.mu.Lock()
	o.asked++
	version, failing := o.version[page], o.failing
	if !failing {
		o.said[page][version] = time.Now()
	}
	o.mu.Unlock()
	if failing {
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintln(w, "failing")
		return
	}
	etag := fmt.Sprintf(`"%d-%d"`, page, version)
	w.Header().Set("Etag", etag)
	w.Header().Set("Cache-Control", fmt.Sprintf("max-age=%d", maxAge(page)))
	w.Header().Set("Surrogate-Key", fmt.Sprint("tag", page%6))
	if r.Header.Get("If-None-Match") == etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	w.WriteHeader(statusOf(page))
	w.Write(body(page, version))
}

// maxAge is the freshness lifetime of a page in seconds.
func maxAge(page int) int { return 1 + page%3 }

func statusOf(page int) int {
	if page%10 == 7 {
		return http.StatusNotFound
	}
	return http.StatusOK
}

// body is the content of a version. Some lie on the nodes in one value, some in
// a chunk, some in several.
func body(page, version int) []byte {
	size := 100 + 300*page
	switch page {
	case 5:
		size = 100_000
	case 15:
		size = 600_000
	}
	head := fmt.Sprintf("page %d version %d\n", page, version)
	return append([]byte(head), bytes.Repeat([]byte(fmt.Sprintf("%d.%d ", page, version)), size/8)...)
}

// read returns which version a body is of; 0 if it is none of this page's.
func read(page int, b []byte) int {
	var p, version int
	if n, _ := fmt.Sscanf(string(b[:min(len(b), 60)]), "page %d version %d\n", &p, &version); n != 2 || p != page || !bytes.Equal(b, body(page, version)) {
		return 0
	}
	return version
}

// bump makes a new version of a page, and returns its number.
func (o *origin) bump(page int) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.version[page]++
	return o.version[page]
}

// churn makes a new version of some page, on and on.
func (o *origin) churn(dice *rand.Rand) { o.bump(dice.IntN(pages)) }

// lastSaid returns when the origin last said that this is the version.
func (o *origin) lastSaid(page, version int) (time.Time, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	at, ok := o.said[page][version]
	return at, ok
}

// fail makes every page a 503, until recover.
func (o *origin) fail() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.failing, o.fails = true, append(o.fails, [2]time.Time{time.Now()})
}

func (o *origin) recover() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.failing = false
	o.fails[len(o.fails)-1][1] = time.Now()
}

// failed reports whether the origin failed at some time between.
func (o *origin) failed(start, end time.Time) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, f := range o.fails {
		if f[0].Before(end) && (f[1].IsZero() || f[1].After(start)) {
			return true
		}
	}
	return false
}
