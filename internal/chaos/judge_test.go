package chaos

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A judge says of each answer whether it may be. It is safe for concurrent use.
type judge struct {
	run *run

	mu       sync.Mutex          // guards all below
	given    [2][pages]testimony // the newest that a Caddy has given
	floor    [2][pages]testimony // the oldest that a Caddy may give: what was there before is invalidated
	slow     []span              // requests that took longer than a time-out
	beats    [2][]span           // requests that pass by the cache, by Caddy
	healthy  time.Duration       // the longest that a request took when all was well
	requests int
	hits     int
	stales   int // served as the origin failed
	longest  time.Duration
	faults   map[string][]string // by wrong, stale, errors and slow
}

// testimony is a version, and how it came to be known.
type testimony struct {
	version int
	how     string
	start   time.Time // of the request that it answered
}

// span is a request.
type span struct {
	caddy      int
	large      bool // a page of several hundred KB, which takes a busy machine longer
	start, end time.Time
	what       string
}

func (s span) took() time.Duration { return s.end.Sub(s.start) }

func newJudge(r *run) *judge { return &judge{run: r, faults: map[string][]string{}} }

// calibrate notes how long requests take while all is well, and begins anew.
func (j *judge) calibrate() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.healthy, j.slow, j.longest = j.longest, nil, 0
}

// ask asks a Caddy for a page and judges the answer.
func (j *judge) ask(caddy, page int) {
	path := fmt.Sprint("/u/", page)
	j.mu.Lock()
	given, floor := j.given[caddy][page], j.floor[caddy][page]
	j.mu.Unlock()
	r := j.run.caddies[caddy].get(path)
	status := strings.Join(r.header["Cache-Status"], ", ")
	hit, fresh := readStatus(status)
	version := read(page, r.body)
	what := fmt.Sprintf("%s Caddy %d, %s: %d [%s] version %d in %s; err %v; %s", j.run.since(r.start), caddy, path, r.status, status,
		version, r.end.Sub(r.start).Round(time.Millisecond), r.err, j.run.trouble.now())
	failed := j.run.origin.failed(r.start, r.end)
	said, known := j.run.origin.lastSaid(page, version)
	old := r.start.Sub(said)

	j.mu.Lock()
	defer j.mu.Unlock()
	j.requests++
	if hit {
		j.hits++
	}
	if hit && !fresh {
		j.stales++
	}
	if took := r.end.Sub(r.start); took > waitTimeout {
		j.slow = append(j.slow, span{caddy, len(r.body) > 64<<10, r.start, r.end, what})
	}
	j.longest = max(j.longest, r.end.Sub(r.start))
	switch {
	case r.err != nil:
		j.blameLocked("errors", what)
	case r.status == http.StatusServiceUnavailable && failed && string(r.body) == "failing\n":
		// It is what the origin said.
	case version == 0 || !known || r.status != statusOf(page):
		j.blameLocked("wrong", what+fmt.Sprintf(" %.60q", r.body))
	case version < floor.version:
		j.blameLocked("stale", fmt.Sprintf("C3: %s; at least version %d was wanted: %s", what, floor.version, floor.how))
	case !fresh && !failed:
		j.blameLocked("stale", "stale while the origin is well: "+what)
	case !fresh:
		// stale-if-error may be older than what was given before.
	case version < given.version && said.Before(given.start):
		// What the origin still said while the newer one was asked for is not older.
		j.blameLocked("stale", fmt.Sprintf("C4: %s; before it gave version %d: %s", what, given.version, given.how))
	case old > time.Duration(maxAge(page))*time.Second+time.Second:
		j.blameLocked("stale", fmt.Sprintf("too old by %s: %s", old-time.Duration(maxAge(page))*time.Second, what))
	}
	if fresh && r.err == nil && version > j.given[caddy][page].version {
		j.given[caddy][page] = testimony{version, what, r.start}
	}
}

// since is the time of the run.
func (r *run) since(t time.Time) string { return fmt.Sprintf("%.3fs", t.Sub(r.began).Seconds()) }

func (j *judge) blameLocked(kind, what string) { j.faults[kind] = append(j.faults[kind], what) }

// readStatus returns whether an answer was a hit, and whether it was given as
// fresh: as a hit that says where it lay, which a stale one and one that is only
// served as the origin fails do not, or as what the origin said just now.
func readStatus(s string) (hit, fresh bool) {
	for _, p := range strings.Split(s, "; ")[1:] {
		name, value, _ := strings.Cut(p, "=")
		switch name {
		case "hit":
			return true, strings.Contains(s, "; detail=n")
		case "fwd-status":
			code, err := strconv.Atoi(value)
			fresh = err == nil && code < 500
		case "collapsed":
			fresh = true
		}
	}
	return false, fresh
}

// beat notes how long a Caddy takes without the cache, which is how busy the
// machine is.
func (j *judge) beat(caddy int) {
	r := j.run.caddies[caddy].get("/beat")
	j.mu.Lock()
	defer j.mu.Unlock()
	j.beats[caddy] = append(j.beats[caddy], span{caddy, false, r.start, r.end, ""})
	if r.err != nil || r.status != http.StatusOK {
		j.blameLocked("errors", fmt.Sprintf("%s Caddy %d without cache: %d %v", j.run.since(r.start), caddy, r.status, r.err))
	}
}

// raise says that a Caddy is not to give an older version of a page any more.
func (j *judge) raise(caddy, page int, v testimony) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if v.version > j.floor[caddy][page].version {
		j.floor[caddy][page] = v
	}
}

// allowed is how long this request may have taken: the time-out, and what it
// takes without any trouble in this run at that time. In the short form, which
// runs beside other tests, that says less.
func (j *judge) allowed(s span) time.Duration {
	most := j.healthy
	for _, b := range j.beats[s.caddy] {
		if b.start.Before(s.end) && b.end.After(s.start) {
			most = max(most, b.took())
		}
	}
	if s.large {
		most += 50 * time.Millisecond
	}
	if *lengthFlag == 0 {
		return 2*waitTimeout + 100*time.Millisecond + 5*most
	}
	return waitTimeout + 50*time.Millisecond + 3*most
}

// report fails the test for what may not be.
func (j *judge) report() {
	t := j.run.t
	t.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, kind := range []string{"wrong", "stale", "errors", "slow"} {
		for i, what := range j.faults[kind] {
			if i == 5 {
				t.Errorf("%s: and %d more", kind, len(j.faults[kind])-i)
				break
			}
			t.Errorf("%s: %s", kind, what)
		}
	}
	if t.Failed() {
		j.run.history()
	}
}

// summary is the run in one line. It judges how long requests took.
func (j *judge) summary() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, s := range j.slow {
		if most := j.allowed(s); s.took() > most {
			j.blameLocked("slow", fmt.Sprintf("%s, which may be %s", s.what, most.Round(time.Millisecond)))
		}
	}
	return fmt.Sprintf("%d requests, %.0f%% hits (%d stale, as the origin failed), longest %s (%s before); %d wrong, %d stale, %d errors, %d slow",
		j.requests, 100*float64(j.hits)/float64(max(j.requests, 1)), j.stales, j.longest.Round(time.Millisecond), j.healthy.Round(time.Millisecond),
		len(j.faults["wrong"]), len(j.faults["stale"]), len(j.faults["errors"]), len(j.faults["slow"]))
}
