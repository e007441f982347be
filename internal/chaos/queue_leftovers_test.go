package chaos

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
)

// depth is what the admin endpoint tells of the queue.
type depth struct {
	Ready    int64 `json:"ready"`
	InFlight int64 `json:"in_flight"`
	Delayed  int64 `json:"delayed"`
	Dead     int64 `json:"dead"`
}

// depth asks how long the queue is.
func (r *queueRun) depth() (d depth, err error) {
	a := r.caddy(0).admin(r.t.Context(), http.MethodGet, "/fluster/queues/q", "")
	if a.err != nil || a.status != http.StatusOK {
		return d, fmt.Errorf("%d %s %w", a.status, a.body, a.err)
	}
	return d, json.Unmarshal(a.body, &d)
}

// drain waits until nothing is in the queue but dead letters.
func (r *queueRun) drain() {
	r.t.Helper()
	var d depth
	var err error
	deadline := time.Now().Add(60 * time.Second)
	for time.Now().Before(deadline) {
		if d, err = r.depth(); err == nil && d.Ready == 0 && d.InFlight == 0 && d.Delayed == 0 && !r.hidden() {
			return
		}
		pass(r.t, 50*time.Millisecond)
	}
	r.t.Errorf("the queue does not drain: %+v %v; hidden: %v", d, err, r.hidden())
}

// hidden reports whether there are second copies that may have to be delivered, or
// to become dead letters, as their firsts are lost.
func (r *queueRun) hidden() bool {
	if len(r.mode.losing) == 0 {
		return false
	}
	dead, seconds := map[string]bool{}, map[string]string{}
	for _, v := range r.victims() {
		ctx := r.t.Context()
		for _, id := range v.client.ZRange(ctx, "{fluster:q:q:0}:x", 0, -1).Val() {
			dead[id] = true
		}
		for _, id := range v.client.ZRange(ctx, "{fluster:q:q:0}:y", 0, -1).Val() {
			seconds[id] = v.client.HGet(ctx, "{fluster:q:q:0}:y:"+id, "s").Val()
		}
	}
	for id, state := range seconds {
		if state != "dead" || !dead[id] {
			return true
		}
	}
	return false
}

// deadLetters returns why messages are dead letters, by their ids.
func (r *queueRun) deadLetters() map[string]string {
	out := map[string]string{}
	for _, l := range r.listDead() {
		out[l.ID] = l.Reason
	}
	return out
}

// listDead lists the dead letters. One that is on two nodes is there twice.
func (r *queueRun) listDead() (list []deadLetter) {
	a := r.caddy(0).admin(r.t.Context(), http.MethodGet, "/fluster/queues/q/dead?limit=1000", "")
	if err := json.Unmarshal(a.body, &list); err != nil || a.status != http.StatusOK {
		r.t.Errorf("listing dead letters: %d %.200s %v %v", a.status, a.body, a.err, err)
	}
	return list
}

// wantNothingLeft: Q4. After a drain a node has streams that are empty, what
// belongs to dead letters, and what has a time to live.
func (r *queueRun) wantNothingLeft() {
	dead := r.deadLetters()
	// Second copies are removed when it is known that they are not needed.
	caddytest.Eventually(r.t, "nothing is left on the nodes but dead letters", func() bool {
		left := r.left(dead)
		if len(left) > 0 && time.Since(r.ledger.calmed) > 18*time.Second {
			r.t.Errorf("left on the nodes: %.2000q", left)
			return true
		}
		pass(r.t, 100*time.Millisecond)
		return len(left) == 0
	})
}

func (r *queueRun) left(dead map[string]string) (left []string) {
	for _, v := range r.victims() {
		list, err := v.client.Keys(r.t.Context(), "*:q:*").Result()
		if err != nil {
			return []string{err.Error()}
		}
		for _, key := range list {
			_, rest, _ := strings.Cut(key, "}:")
			kind, id, _ := strings.Cut(rest, ":")
			id, _, _ = strings.Cut(id, ":")
			switch {
			case strings.HasSuffix(key, ":s"):
				if n := v.client.XLen(r.t.Context(), key).Val(); n > 0 { // 0 from a replica of a cluster
					left = append(left, fmt.Sprintf("%s with %d entries", key, n))
				}
			case kind == "l": // as long as there are streams
			case kind == "x", slices.Contains([]string{"m", "b", "y", "n"}, kind) && dead[id] != "":
			case kind == "y" && len(dead) > 0: // the second copies' list has those of dead letters
			case v.client.PTTL(r.t.Context(), key).Val() > 0:
			case v.client.PTTL(r.t.Context(), key).Err() != nil: // a replica of a cluster; its master is asked as well
			default:
				left = append(left, key)
			}
		}
	}
	return left
}
