package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// A life is one Caddy, from its start to its end: its metrics begin at zero and go on
// over reloads. It knows what its clients know. The ledger guards that.
type life struct {
	process    *process
	name       string
	answers    map[int]int   // by status, those of the first time
	accepted   []string      // ids of what it answered 202
	unanswered int           // requests that it may have had, and did not answer
	stood      time.Duration // how long it was stopped

	// Of the test's goroutine.
	killed bool
	last   map[string]int // what it had counted before it was killed; nil: it did not say so
	known  int            // how much of accepted was known then
}

// answered writes down an answer, and how many connections it took to get it: a client
// sends again what was cut off, if it may.
func (x *life) answered(a reply, id string) {
	if a.err != nil || a.status == 0 {
		x.unanswered += a.tries
		return
	}
	x.unanswered += max(a.tries-1, 0)
	switch {
	case a.header.Get("Idempotency-Replayed") != "":
	case a.status == http.StatusAccepted:
		x.accepted = append(x.accepted, id)
	default:
		x.answers[a.status]++
	}
}

// lastWords asks a Caddy that is about to be killed. It need not answer.
func (r *queueRun) lastWords(x *life) {
	r.ledger.mu.Lock()
	x.known = len(x.accepted)
	r.ledger.mu.Unlock()
	ctx, cancel := context.WithTimeout(r.t.Context(), 300*time.Millisecond)
	defer cancel()
	x.killed = true
	x.last, _ = x.scrape(ctx)
}

// scrape asks a Caddy what it has counted.
func (x *life) scrape(ctx context.Context) (map[string]int, error) {
	a := x.process.admin(ctx, http.MethodGet, "/metrics", "")
	if a.err != nil || a.status != http.StatusOK {
		return nil, errors.Join(fmt.Errorf("GET /metrics of %s: %d", x.name, a.status), a.err)
	}
	return readCounts(string(a.body))
}

// refusals are the answers of refusals, by their reasons.
var refusals = map[string]int{
	"closed": 503, "durability": 503, "no_node": 503, "too_large": 413, "mismatch": 422, "backlog": 429,
}

// readCounts reads what a Caddy has counted of its queue: numbers by the metric and
// the label that counts.
func readCounts(metrics string) (map[string]int, error) {
	got := map[string]int{}
	for line := range strings.Lines(metrics) {
		line, ok := strings.CutPrefix(line, "caddy_fluster_queue_")
		if !ok {
			continue
		}
		name, rest, _ := strings.Cut(line, "{")
		text, value, _ := strings.Cut(strings.TrimSpace(rest), "} ")
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return nil, fmt.Errorf("reading %q: %w", line, err)
		}
		labels := map[string]string{}
		for _, l := range strings.Split(text, ",") {
			k, quoted, _ := strings.Cut(l, "=")
			labels[k] = strings.Trim(quoted, `"`)
		}
		n := int(math.Ceil(v))
		switch name {
		case "accepted_total", "failed_over_total":
			got[name] += n
			got[name+" "+labels["node"]] += n
		case "delivered_total", "retried_total", "dead_total", "suspected_duplicates_total", "seconds_count":
			got[name+" "+labels["node"]] += n
		case "refused_total":
			reason := labels["reason"]
			if status, ok := refusals[reason]; ok {
				reason = strconv.Itoa(status)
			}
			got[name+" "+reason] += n
		case "messages":
			got[name+" "+labels["state"]] += n
		case "oldest_seconds":
			got["partitions"]++
			got[name] += n
		case "released_total", "paused", "in_flight_here", "abandoned":
			got[name] += n
		}
	}
	return got, nil
}

// A log is what a Caddy says of what nobody else sees.
type log struct {
	lost     []string // the nodes of deliveries that another worker took away
	released int      // messages that were handed back
	gaveUp   int      // deliveries of which it could not record what came of them
}

func (x *life) log() (out log) {
	for _, line := range x.process.Logged("another worker has taken the message") {
		var e struct{ Node string }
		if json.Unmarshal([]byte(line), &e) == nil {
			out.lost = append(out.lost, e.Node)
		}
	}
	out.released = len(x.process.Logged("delivery recorded", `"state":"ready"`))
	for _, line := range x.process.Logged("the worker has ended") {
		_, text, _ := strings.Cut(line, "what came of ")
		number, _, _ := strings.Cut(text, " ")
		n, _ := strconv.Atoi(number)
		out.gaveUp += n
	}
	return out
}
