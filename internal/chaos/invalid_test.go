package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
)

// tally counts invalidations.
var tally struct {
	acknowledged, refused, everywhere, published, heard atomic.Int64
}

// invalidated tells how many invalidations there were.
func (r *run) invalidated() string {
	s := fmt.Sprintf("%d invalidations acknowledged, of which %d must hold in the other Caddy, %d refused; %d messages heard, of which %d must hold",
		tally.acknowledged.Swap(0), tally.everywhere.Swap(0), tally.refused.Swap(0), tally.published.Swap(0), tally.heard.Swap(0))
	return s
}

// selector is what is invalidated, as JSON and as a message, and which pages
// that selects.
type selector struct {
	json, message string
	pages         []int
}

func someSelector(dice *rand.Rand) (s selector) {
	n := somePage(dice)
	selects := func(ok func(page int) bool) {
		for p := range pages {
			if ok(p) {
				s.pages = append(s.pages, p)
			}
		}
	}
	kind, value := "url", fmt.Sprintf("http://%s/u/%d", caddytest.Host, n)
	switch dice.IntN(10) {
	case 0, 1:
		kind, value = "tag", fmt.Sprint("tag", n%6)
		selects(func(p int) bool { return p%6 == n%6 })
	case 2:
		kind = "prefix"
		selects(func(p int) bool { return strings.HasPrefix(strconv.Itoa(p), strconv.Itoa(n)) })
	case 3:
		if dice.IntN(4) == 0 {
			kind, value = "host", caddytest.Host
			selects(func(int) bool { return true })
			break
		}
		fallthrough
	default:
		s.pages = []int{n}
	}
	s.json, s.message = fmt.Sprintf(`{"%s":["%s"],"wait":true}`, kind, value), kind+" "+value
	return s
}

// renew has the origin make a new version of each page, and returns them.
func (r *run) renew(s selector) map[int]int {
	versions := map[int]int{}
	for _, p := range s.pages {
		versions[p] = r.origin.bump(p)
	}
	return versions
}

// raise says from which versions on a Caddy may give these pages.
func (r *run) raise(caddy int, versions map[int]int, how string) {
	for p, v := range versions {
		r.judge.raise(caddy, p, testimony{version: v, how: how})
	}
}

// invalidate invalidates in the durable way, at one Caddy. That one may give
// nothing older from the answer on, whatever it is. The other may not either,
// where it is acknowledged and both reach a node that has it.
func (r *run) invalidate(ctx context.Context, caddy int, dice *rand.Rand) {
	s := someSelector(dice)
	here, other := r.caddies[caddy], 1-caddy
	start := time.Now()
	before := []map[string]nodeStatus{here.show(), r.caddies[other].show()}
	versions := r.renew(s)
	a := here.admin(ctx, http.MethodPost, "/fluster/invalidate", s.json)
	how := fmt.Sprintf("%s invalidated from %s to %s at Caddy %d: %d %s", s.json, r.since(a.start), r.since(a.end), caddy, a.status, a.body)
	if ctx.Err() != nil {
		return
	}
	if a.err != nil || a.status != http.StatusOK && a.status != http.StatusServiceUnavailable {
		r.judge.mu.Lock()
		r.judge.blameLocked("errors", fmt.Sprintf("%s %v", how, a.err))
		r.judge.mu.Unlock()
		return
	}
	r.raise(caddy, versions, how)
	if a.status != http.StatusOK {
		tally.refused.Add(1)
		return
	}
	tally.acknowledged.Add(1)
	var ack struct{ Applied []string }
	if err := json.Unmarshal(a.body, &ack); err != nil {
		r.t.Errorf("%s: %v", how, err)
		return
	}
	well := r.trouble.well(start)
	if r.world.common(ack.Applied, well, append(before, here.show(), r.caddies[other].show())...) {
		tally.everywhere.Add(1)
		r.raise(other, versions, how)
	}
}

const (
	// lease is how long a process may go without having read the journals.
	lease = time.Second
	// settling is how long a node must have been well before a message on it
	// certainly finds its listeners.
	settling = 600 * time.Millisecond
)

// publish publishes a message on a node that is well. Where that stays so, and
// both Caddys have heard it, it holds in both a second later.
func (r *run) publish(ctx context.Context, dice *rand.Rand) {
	start := time.Now()
	well := r.trouble.well(start.Add(-settling))
	node := dice.IntN(len(well))
	if !well[node] {
		return
	}
	s := someSelector(dice)
	before := []map[string]nodeStatus{r.caddies[0].show(), r.caddies[1].show()}
	versions := r.renew(s)
	at := time.Now()
	heard := r.world.publish(node, s.message)
	if heard != int64(len(r.caddies)) {
		return
	}
	tally.published.Add(1)
	timer := time.NewTimer(lease + lease/2)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return
	}
	still := slices.Repeat([]bool{false}, len(well))
	still[node] = r.trouble.well(start.Add(-settling))[node]
	after := []map[string]nodeStatus{r.caddies[0].show(), r.caddies[1].show()}
	name := string(rune('a' + node))
	if r.world.common([]string{name}, still, append(before, after...)...) {
		tally.heard.Add(1)
		for i := range r.caddies {
			r.raise(i, versions, fmt.Sprintf("%s published on node %d at %s", s.message, node, r.since(at)))
		}
	}
}
