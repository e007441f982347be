package chaos

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// An arrival is one request of a delivery, as the upstream has seen it.
type arrival struct {
	life, node, id string // the Caddy that delivers, the node on which the message lies, the message
	attempt        int    // its number, from 1
	lastError      string // what is said of the attempt before, or of an earlier one
	status         int    // how it was answered; 0: it was not
	babbled        bool   // but by what is no answer
}

// newArrival reads who comes.
func newArrival(h http.Header) *arrival {
	n, _ := strconv.Atoi(h.Get("Fluster-Attempt"))
	return &arrival{
		life: h.Get("X-Caddy"), node: h.Get("X-Node"), id: h.Get("Fluster-Message-Id"),
		attempt: n, lastError: h.Get("Fluster-Last-Error"),
	}
}

// failures are the statuses of failed deliveries. An attempt has one by its number,
// so that the error which the next one carries says whether it is that of this one.
var failures = []int{500, 501, 503, 505, 506, 507, 508}

func (a *arrival) failure() int { return failures[a.attempt%len(failures)] }

func (a *arrival) failed() bool {
	return a.status != http.StatusNoContent && a.status != http.StatusUnprocessableEntity
}

// babble is what the upstream says instead of an answer. The error has the number of
// the attempt, unless the connection was reset before it was read.
func (a *arrival) babble() string { return fmt.Sprintf("attempt-%d-was-babble", a.attempt) }

// saw reports whether an error may say how the arrival ended. All that the upstream
// did not answer look alike.
func (a *arrival) saw(lastError string) bool {
	if a.status == 0 {
		return lastError != "" && !isAnswer(lastError) || a.babbled && strings.Contains(lastError, a.babble())
	}
	return a.failed() && strings.HasPrefix(lastError, strconv.Itoa(a.status)+" ")
}

// isAnswer reports whether an error is what the upstream has said.
func isAnswer(lastError string) bool {
	return strings.Contains(lastError, "-was-babble") ||
		slices.ContainsFunc(failures, func(s int) bool { return strings.HasPrefix(lastError, strconv.Itoa(s)+" ") })
}

// A history is what the upstream has seen of one message on one node, by the number
// of the attempt. Of one number there are several arrivals where two workers had the
// message, or where the first was cut off and handed back.
type history map[int][]*arrival

// histories sorts arrivals. Where a node may lose everything, a message is the same
// one on all nodes, as its second copy takes its place.
func histories(arrivals []*arrival, losing bool) map[string]history {
	out := map[string]history{}
	for _, a := range arrivals {
		name := a.id
		if !losing {
			name += " on " + a.node
		}
		if out[name] == nil {
			out[name] = history{}
		}
		out[name][a.attempt] = append(out[name][a.attempt], a)
	}
	return out
}

// unseen is how many attempts the upstream may not have seen: they failed before, or
// ended with a Caddy that was killed. Where two workers made one of the same number,
// one more may have been made.
func (h history) unseen() int {
	n := slices.Max(slices.Collect(maps.Keys(h))) - len(h)
	for _, as := range h {
		n += len(as) - 1
	}
	return n
}

// certainty is what can be said of what nobody has seen.
type certainty int

const (
	maybe certainty = iota
	yes
	no
)

// wasRecorded reports whether the error that an arrival carries is that of the
// attempt before it, which was recorded as failed then. If it is not, nothing was
// heard of that attempt: a node hands a message out with the error that was recorded
// last.
func (h history) wasRecorded(a *arrival) certainty {
	before := h[a.attempt-1]
	said := func(as []*arrival) bool {
		return slices.ContainsFunc(as, func(b *arrival) bool { return b.saw(a.lastError) })
	}
	switch {
	case len(before) == 0:
		return maybe
	case !said(before) && (a.lastError == "" || isAnswer(a.lastError)):
		return no
	case !said(before):
		return maybe // it failed before the upstream saw it
	}
	for n := 1; n < a.attempt-1; n++ {
		if said(h[n]) || len(h[n]) == 0 && !isAnswer(a.lastError) {
			return maybe // or it is the error of that one
		}
	}
	return yes
}

// wasRetried reports whether an attempt was recorded as failed.
func (h history) wasRetried(n int) certainty {
	out := no
	for _, a := range h[n+1] {
		switch h.wasRecorded(a) {
		case yes:
			return yes
		case maybe:
			out = maybe
		}
	}
	if len(h[n+1]) == 0 {
		return maybe
	}
	return out
}

// count adds what the Caddys must have counted of a message, and what they may have,
// to what is expected of each.
//
//   - What was answered 2xx, or 422, and was not seen again, was recorded by who
//     delivered it: nobody else had it.
//   - An attempt whose error the next one carries was recorded by who made it. Of
//     another one its worker may think so: the reply was lost, and then the message was
//     gone, as somebody else had ended it.
//   - An attempt that nobody recorded, though another one follows it, makes that one a
//     suspected duplicate.
//
// Where a node may lose everything, nobody knows what the attempts of another copy
// say of this one.
func (h history) count(expected map[string]counts, losing bool) {
	last := slices.Max(slices.Collect(maps.Keys(h)))
	for n, as := range h {
		ended := n == last && len(as) == 1
		retried := h.wasRetried(n)
		one := !slices.ContainsFunc(as, func(a *arrival) bool { return a.life != as[0].life || a.node != as[0].node })
		suspected := map[string]bool{}
		for _, a := range as {
			c := expected[a.life]
			switch {
			case a.status == http.StatusNoContent:
				c.add("delivered_total "+a.node, least(ended), 1)
			case !a.failed():
				c.add("dead_total "+a.node, least(ended), 1)
			default:
				c.add("retried_total "+a.node, least(retried == yes && one), 1)
				one = false // the others of this number are not recorded
			}
			if n == 1 || h.wasRecorded(a) == yes {
				continue
			}
			must := !losing && h.wasRecorded(a) == no && !suspected[a.life]
			c.add("suspected_duplicates_total "+a.node, least(must), 1)
			suspected[a.life] = true
		}
	}
}

func least(must bool) int {
	if must {
		return 1
	}
	return 0
}

// TestHistories: what follows from what the upstream has seen.
func TestHistories(t *testing.T) {
	const done, dead, cut = http.StatusNoContent, http.StatusUnprocessableEntity, 0
	at := func(life string, attempt int, lastError string, status int) *arrival {
		return &arrival{life: life, node: "n", id: "m", attempt: attempt, lastError: lastError, status: status}
	}
	babble := func(life string, attempt int, lastError string) *arrival {
		a := at(life, attempt, lastError, cut)
		a.babbled = true
		return a
	}
	const e1, e2 = "501 Not Implemented", "503 Service Unavailable"
	for _, c := range []struct {
		name     string
		arrivals []*arrival
		a, b     counts
	}{
		{"done", []*arrival{at("a", 1, "", done)}, counts{"delivered_total n": {1, 1}}, nil},
		{"dead", []*arrival{at("a", 1, "", dead)}, counts{"dead_total n": {1, 1}}, nil},
		{"retried", []*arrival{at("a", 1, "", 501), at("b", 2, e1, done)},
			counts{"retried_total n": {1, 1}}, counts{"delivered_total n": {1, 1}}},
		{"cut off and retried", []*arrival{at("a", 1, "", cut), at("b", 2, "502 Bad Gateway: EOF", done)},
			counts{"retried_total n": {1, 1}}, counts{"delivered_total n": {1, 1}}},
		{"done and not recorded", []*arrival{at("a", 1, "", done), at("b", 2, "", done)},
			counts{"delivered_total n": {0, 1}}, counts{"delivered_total n": {1, 1}, "suspected_duplicates_total n": {1, 1}}},
		{"failed and not recorded", []*arrival{at("a", 1, "", 501), at("b", 2, "", done)},
			counts{"retried_total n": {0, 1}}, counts{"delivered_total n": {1, 1}, "suspected_duplicates_total n": {1, 1}}},
		{"not recorded after a retry", []*arrival{at("a", 1, "", 501), at("a", 2, e1, done), at("b", 3, e1, done)},
			counts{"retried_total n": {1, 1}, "delivered_total n": {0, 1}},
			counts{"delivered_total n": {1, 1}, "suspected_duplicates_total n": {1, 1}}},
		{"two have it", []*arrival{at("a", 1, "", 501), at("b", 1, "", 501), at("b", 2, e1, done)},
			counts{"retried_total n": {0, 1}}, counts{"retried_total n": {0, 1}, "delivered_total n": {1, 1}}},
		{"not seen", []*arrival{at("a", 1, "", 501), at("b", 3, "502 Bad Gateway: no body", done)},
			counts{"retried_total n": {0, 1}}, counts{"delivered_total n": {1, 1}, "suspected_duplicates_total n": {0, 1}}},
		{"cut off twice", []*arrival{at("a", 1, "", cut), at("a", 2, "EOF", cut), at("b", 3, "EOF", done)},
			counts{"retried_total n": {1, 2}}, counts{"delivered_total n": {1, 1}, "suspected_duplicates_total n": {0, 1}}},
		{"babble", []*arrival{at("a", 1, "", cut), babble("a", 2, "EOF"), babble("b", 3, at("", 2, "", 0).babble()), at("b", 4, "reset", done)},
			counts{"retried_total n": {2, 2}}, counts{"retried_total n": {0, 1}, "delivered_total n": {1, 1}, "suspected_duplicates_total n": {0, 1}}},
		{"nothing follows", []*arrival{at("a", 1, "", 501), at("b", 2, e1, 503)},
			counts{"retried_total n": {1, 1}}, counts{"retried_total n": {0, 1}}},
		{"two errors", []*arrival{at("a", 1, "", 501), at("a", 2, e1, 503), at("b", 3, e2, dead)},
			counts{"retried_total n": {2, 2}}, counts{"dead_total n": {1, 1}}},
	} {
		got := map[string]counts{"a": {}, "b": {}}
		for _, h := range histories(c.arrivals, false) {
			h.count(got, false)
		}
		want := map[string]counts{"a": c.a, "b": c.b}
		for life := range want {
			if want[life] == nil {
				want[life] = counts{}
			}
		}
		if d := cmp.Diff(want, got, cmp.AllowUnexported(bounds{})); d != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, d)
		}
	}
}
