package chaos

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A letter is a message, with all that is known of it.
type letter struct {
	number int
	method string
	uri    string
	host   string
	header http.Header
	body   []byte
	poison bool // nobody takes it: it is to be a dead letter
	long   bool // longer than the queue takes
	forged bool // it has the key of another one
	times  int  // how often it is sent

	ids       map[string]bool // under which it was accepted
	refused   int             // answers by which it must not be delivered
	unknown   int             // answers by which it may be delivered or not
	replayed  int             // answers that a node knew its key, after another one may have taken it without a word
	delivered map[string]int  // how often it was taken, by id
	tried     int
}

// ledger is the upstream, and the book of what was sent and what came. It is safe
// for concurrent use.
type ledger struct {
	t    *testing.T
	addr string
	down atomic.Bool  // it answers nothing, or what is no answer
	slow atomic.Int64 // for how long an answer takes, now and then

	mu       sync.Mutex // guards all below
	seed     uint64
	letters  []*letter
	faults   int
	calmed   time.Time
	statuses map[int]int
	slowest  time.Duration // answer to a sender, less what its Caddy stood still
	arrivals []*arrival
	held     map[string]int // by Caddy: how often its deliveries were held
	wrong    []string
}

func newLedger(t *testing.T, seed uint64) *ledger {
	l := &ledger{t: t, seed: seed, statuses: map[int]int{}, held: map[string]int{}}
	server := httptest.NewServer(l)
	l.addr = strings.TrimPrefix(server.URL, "http://")
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return l
}

func (l *ledger) fault(string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.faults++
}

// stood adds a time for which a Caddy stood still, and returns how long that was in
// all.
func (l *ledger) stood(x *life, d time.Duration) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	x.stood += d
	return x.stood
}

// calm ends all faults of the upstream.
func (l *ledger) calm() {
	l.down.Store(false)
	l.slow.Store(0)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calmed = time.Now()
}

// newLetter writes another letter. Its number is in its URI; its body is of any
// bytes, empty, short, or so long that it lies in chunks.
func (l *ledger) newLetter(dice *rand.Rand) *letter {
	l.mu.Lock()
	defer l.mu.Unlock()
	x := &letter{number: len(l.letters), times: 1, ids: map[string]bool{}, delivered: map[string]int{}, header: http.Header{}}
	x.method = []string{"POST", "PUT", "PATCH", "DELETE"}[dice.IntN(4)]
	x.uri = fmt.Sprintf("/a%%2Fb/%d?q=%%20+&x", x.number)
	x.host = fmt.Sprintf("h%d.example.test", dice.IntN(3))
	x.body = make([]byte, []int{0, 1, 100, 1000, 1000, 1000, 70_000, 300_000}[dice.IntN(8)])
	for i := range x.body {
		x.body[i] = byte(dice.Uint32())
	}
	x.header.Set("Content-Type", "application/octet-stream")
	x.header["X-Two"] = []string{"a, b", "c\xe9"}
	x.poison = dice.IntN(20) == 0
	if dice.IntN(10) == 0 {
		x.times = 2 + dice.IntN(2)
		x.header.Set("Idempotency-Key", strconv.Itoa(x.number))
	}
	if dice.IntN(3) == 0 {
		x.header.Set("X-Priority", "high")
	}
	if x.times == 1 && dice.IntN(40) == 0 {
		x.long, x.body = true, make([]byte, maxBody+1)
	}
	l.letters = append(l.letters, x)
	return x
}

// maxBody is the longest body that the queue takes.
const maxBody = 320_000

// forge writes a letter that has another body under the key of x.
func (l *ledger) forge(x *letter, dice *rand.Rand) *letter {
	f := l.newLetter(dice)
	l.mu.Lock()
	defer l.mu.Unlock()
	f.forged, f.long, f.times = true, false, 1
	f.body = []byte("not that one")
	f.header.Set("Idempotency-Key", x.header.Get("Idempotency-Key"))
	return f
}

// answered writes down how a letter was answered.
func (l *ledger) answered(x *letter, by *life, a reply, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.statuses[a.status]++
	l.slowest = max(l.slowest, took)
	var body struct{ ID, Queue string }
	defer func() { by.answered(a, body.ID) }()
	switch {
	case a.err != nil || a.status == 0:
		x.unknown++
	case a.status == http.StatusAccepted:
		if err := json.Unmarshal(a.body, &body); err != nil || body.ID == "" || body.Queue != "q" || x.long {
			l.blameLocked("letter %d: 202 with %q", x.number, a.body)
		}
		x.ids[body.ID] = true
		if a.header.Get("Idempotency-Replayed") != "" {
			x.replayed++
		}
	case a.status == http.StatusServiceUnavailable, a.status == http.StatusTooManyRequests:
		if a.header.Get("Retry-After") == "" {
			l.blameLocked("letter %d: %d without Retry-After", x.number, a.status)
		}
		x.unknown++ // a node that did not answer may have it
	case a.status == http.StatusUnprocessableEntity && x.forged:
		x.unknown++ // likewise
	case a.status == http.StatusRequestEntityTooLarge && x.long:
		x.refused++
	default:
		x.refused++
		l.blameLocked("letter %d: answered %d %q", x.number, a.status, a.body)
	}
}

func (l *ledger) blameLocked(format string, args ...any) {
	l.wrong = append(l.wrong, fmt.Sprintf(format, args...))
}

// ServeHTTP is the upstream: it fails now and then, by number and attempt, so
// that a seed names it.
func (l *ledger) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	came := newArrival(r.Header)
	down := l.down.Load()
	l.mu.Lock()
	came.babbled = down && came.attempt > 1
	if came.life == "" || came.node == "" || came.id == "" || came.attempt < 1 {
		l.blameLocked("delivered: %s %s %q", r.Method, r.RequestURI, r.Header)
	} else {
		l.arrivals = append(l.arrivals, came)
	}
	l.mu.Unlock()
	if came.babbled {
		babble(w, came.babble())
	}
	if down {
		panic(http.ErrAbortHandler)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	_, rest, _ := strings.Cut(r.RequestURI, "/a%2Fb/")
	number, _, _ := strings.Cut(rest, "?")
	n, err := strconv.Atoi(number)
	l.mu.Lock()
	if err != nil || n >= len(l.letters) {
		l.blameLocked("delivered: %s %s", r.Method, r.RequestURI)
		l.mu.Unlock()
		return
	}
	x := l.letters[n]
	x.tried++
	dice := rand.New(rand.NewPCG(l.seed, uint64(n*1000+x.tried)))
	l.check(x, r, body)
	l.mu.Unlock()

	d := time.Duration(dice.Int64N(int64(workTime)))
	if slow := time.Duration(l.slow.Load()); slow > 0 && dice.IntN(8) == 0 {
		d = slow
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.Context().Done():
		return
	}
	for l.holds(came) && r.Context().Err() == nil {
		pass(l.t, 10*time.Millisecond)
	}
	switch dice.IntN(20) {
	case 0:
		l.answer(w, came, came.failure())
		return
	case 1:
		w.Header().Set("Retry-After", "1")
		l.answer(w, came, came.failure())
		return
	case 2:
		panic(http.ErrAbortHandler)
	}
	if x.poison {
		l.answer(w, came, http.StatusUnprocessableEntity)
		return
	}
	l.mu.Lock()
	x.delivered[came.id]++
	l.mu.Unlock()
	l.answer(w, came, http.StatusNoContent)
}

// babble answers with what is none.
func babble(w http.ResponseWriter, text string) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	io.WriteString(conn, text+"\r\n\r\n") //nolint:errcheck // who does not hear it hears nothing
}

// answer answers a delivery, and writes down how.
func (l *ledger) answer(w http.ResponseWriter, came *arrival, status int) {
	l.mu.Lock()
	came.status = status
	l.mu.Unlock()
	w.WriteHeader(status)
}

// hold has the deliveries of a Caddy last until letGo, so that it has something in
// hand when it dies, or is stopped. It waits for the first, for a while.
func (l *ledger) hold(x *life) {
	l.mu.Lock()
	l.held[x.name] = 0
	l.mu.Unlock()
	for range 30 {
		l.mu.Lock()
		n := l.held[x.name]
		l.mu.Unlock()
		if n > 0 {
			return
		}
		pass(l.t, 10*time.Millisecond)
	}
}

// holds reports whether a delivery is to last.
func (l *ledger) holds(a *arrival) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, is := l.held[a.life]
	if is {
		l.held[a.life]++
	}
	return is
}

func (l *ledger) letGo(x *life) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.held, x.name)
}

// workTime is how long the upstream takes for a delivery at most, unless it is slow.
const workTime = 40 * time.Millisecond

// check compares what came with what was sent. Q3.
func (l *ledger) check(x *letter, r *http.Request, body []byte) {
	if r.Method != x.method || r.RequestURI != x.uri || r.Host != x.host || !bytes.Equal(body, x.body) ||
		!slices.Equal(r.Header["X-Two"], x.header["X-Two"]) || r.Header.Get("Content-Type") != x.header.Get("Content-Type") {
		l.blameLocked("letter %d came as %s %s %s %q with %d bytes; sent was %s %s %s with %d", x.number,
			r.Method, r.Host, r.RequestURI, r.Header, len(body), x.method, x.host, x.uri, len(x.body))
	}
	if ip, _, err := net.SplitHostPort(r.RemoteAddr); err != nil || r.Header.Get("X-Forwarded-For") != ip || r.Header.Get("Fluster-Attempt") == "" {
		l.blameLocked("letter %d came with %q", x.number, r.Header)
	}
}

// compare compares answers with deliveries.
func (l *ledger) compare(r *queueRun) {
	dead := r.deadLetters()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, w := range l.wrong {
		l.t.Error(w)
	}
	for _, x := range l.letters {
		for id := range x.ids {
			isDead := dead[id] != ""
			switch {
			case x.poison && !isDead:
				l.t.Errorf("Q1: letter %d, %s, which nobody takes, is no dead letter; tried %d times", x.number, id, x.tried)
			case !x.poison && x.delivered[id] == 0 && !isDead:
				l.t.Errorf("Q1: letter %d, %s, is lost; tried %d times, sent %d times, %d without an answer", x.number, id, x.tried, x.times, x.unknown)
			case !x.poison && isDead:
				l.t.Errorf("Q1: letter %d, %s, is a dead letter: %s", x.number, id, dead[id])
			}
		}
		if x.refused > 0 && len(x.ids) == 0 && x.unknown == 0 && x.tried > 0 {
			l.t.Errorf("Q2: letter %d was refused and delivered", x.number)
		}
		for id := range x.delivered {
			if !x.ids[id] && x.unknown == 0 && x.replayed == 0 {
				l.t.Errorf("Q2: letter %d, sent %d times, came as %q, which nobody was told", x.number, x.times, id)
			}
		}
	}
	// Also one that was stopped answers within its second when it goes on. What hangs
	// on a node hangs for longer than a busy machine holds anything up.
	if l.slowest > 8*time.Second {
		l.t.Errorf("an answer took %s", l.slowest)
	}
}

// summary says how many of what there were.
func (l *ledger) summary() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	accepted, delivered, twice := 0, 0, 0
	for _, x := range l.letters {
		accepted += len(x.ids)
		for _, n := range x.delivered {
			delivered++
			twice += n - 1
		}
	}
	return fmt.Sprintf("%d letters, answers %v, %d accepted, %d delivered, %d of them again; slowest answer %s", len(l.letters), l.statuses, accepted, delivered, twice, l.slowest.Round(time.Millisecond))
}
