package conformance

import (
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"
)

// A row is a script for the origin, and what a client asks and gets. {path} in
// a value stands for the row's path, {host} for its authority.
type row struct {
	name    string
	site    string // "" is siteRFC
	near    bool   // it is about what lies in the near cache alone
	quiet   bool   // no other row invalidates anything meanwhile
	answers []answer
	steps   []*step
}

// invalidates reports whether the row asks with a method that may be unsafe.
func (w row) invalidates() bool {
	return slices.ContainsFunc(w.steps, func(s *step) bool { return s.method != http.MethodGet && s.method != http.MethodHead })
}

func (w row) siteName() string {
	if w.site == "" {
		return siteRFC
	}
	return w.site
}

// at puts the row on another site.
func (w row) at(site string) row { w.site = site; return w }

// status gives all answers a status.
func (w row) status(status int) row {
	w.answers = append([]answer(nil), w.answers...)
	for i := range w.answers {
		w.answers[i].status = status
	}
	return w
}

// test is a row in words.
func test(name string, answers []answer, steps ...*step) row {
	return row{name: name, answers: answers, steps: steps}
}

// fresh is the row of a response with these fields that is used for the next
// request without asking the origin; stale is that of one that is not.
func fresh(name string, fields ...string) row {
	return test(name, origins(with(fields...)), get().miss(), get().hit())
}

func stale(name string, fields ...string) row {
	return test(name, origins(with(fields...)), get().miss(), get().miss())
}

// origins are the answers of an origin, one after the other. The last one is
// that to all further requests as well.
func origins(answers ...answer) []answer { return answers }

// with is a 200 (OK) with these fields: names and values in turn.
func with(fields ...string) answer { return answer{fields: fields} }

// not304 is a 304 (Not Modified).
func not304(fields ...string) answer { return answer{status: http.StatusNotModified, fields: fields} }

func (a answer) is(status int) answer              { a.status = status; return a }
func (a answer) saying(body string) answer         { a.body, a.empty = body, body == ""; return a }
func (a answer) withoutDate() answer               { a.dateless = true; return a }
func (a answer) inChunks(trailer ...string) answer { a.chunked, a.trailer = true, trailer; return a }
func (a answer) broken(cut int) answer             { a.cut = cut; return a }
func (a answer) after(d time.Duration) answer      { a.delay = d; return a }
func (a answer) early(status int, fields ...string) answer {
	a.interims = append(a.interims[:len(a.interims):len(a.interims)], answer{status: status, fields: fields})
	return a
}

// gone is no answer: the connection breaks off before the head.
func gone() answer { return answer{mute: true} }

// A step is one request of the client, and what it expects. The methods say
// what is expected; they change the step and return it.
type step struct {
	method, suffix string
	fields         []string // names and values in turn
	content        string
	wait           time.Duration // before it
	meanwhile      *step         // is asked while this step waits for its answer, and not judged

	asked  int // how often the origin is asked
	later  int // how often it is asked besides, after the client has its answer
	from   int // the number of the answer that the body is of; 0 is the latest, −1 any
	code   int // the status; 0 is that of the answer
	broken bool
	checks []check
}

func request(method, suffix string, fields ...string) *step {
	return &step{method: method, suffix: suffix, fields: fields}
}

func get(fields ...string) *step  { return request(http.MethodGet, "", fields...) }
func head(fields ...string) *step { return request(http.MethodHead, "", fields...) }

// getAt asks for the row's path with something behind it.
func getAt(suffix string, fields ...string) *step { return request(http.MethodGet, suffix, fields...) }

func post(suffix string, fields ...string) *step {
	s := request(http.MethodPost, suffix, fields...)
	s.content = "content"
	return s
}

// miss expects that the origin is asked, once, and that its answer is served.
func (s *step) miss() *step { s.asked, s.from = 1, 0; return s }

// hit expects that the first answer is served, and that the origin is not asked.
func (s *step) hit() *step { return s.hitOf(1) }

// hitOf expects that the n-th answer is served, and the origin not asked.
func (s *step) hitOf(n int) *step { s.asked, s.from = 0, n; return s }

// validated expects that the origin is asked, and that the n-th answer is
// served, which it confirmed or could not replace.
func (s *step) validated(n int) *step { s.asked, s.from = 1, n; return s }

// asks expects that the origin is asked so many times.
func (s *step) asks(n int) *step { s.asked = n; return s }

// of expects that the n-th answer is served.
func (s *step) of(n int) *step { s.from = n; return s }

// background expects that the origin is asked n times after the answer.
func (s *step) background(n int) *step { s.later = n; return s }

// status expects a status and, if it is no success, any body.
func (s *step) status(code int) *step {
	if s.code = code; code >= 300 {
		s.from = -1
	}
	return s
}

// during asks another thing before the answer comes, which the origin delays.
func (s *step) during(other *step) *step { s.meanwhile = other; return s }

// breaks expects that the answer breaks off, in the head or the body.
func (s *step) breaks() *step { s.broken = true; return s }

// after lets time pass before the step.
func (s *step) after(d time.Duration) *step { s.wait = d; return s }

// A run plays rows in one way.
type run struct {
	caddy  *caddy
	name   string
	client *http.Client
	once   *http.Client // for answers that break off; nil is client
	node   *node        // nil where Caddy has none
}

// play does what the row says. A step that fails ends it: what follows would
// mean nothing.
func (r *run) play(t *testing.T, w row, path string) {
	switch quiet := &r.caddy.quiet; {
	case w.quiet:
		quiet.Lock()
		defer quiet.Unlock()
	case w.invalidates():
		quiet.RLock()
		defer quiet.RUnlock()
	}
	s := r.caddy.origin.script(path, func(n int) answer {
		if len(w.answers) == 0 {
			return answer{}
		}
		return w.answers[min(n, len(w.answers))-1]
	})
	x := &exchange{row: &w, script: s, path: path, authority: host}
	for i, st := range w.steps {
		pause(st.wait)
		x.step = st.filled(path)
		x.before = len(s.since(0))
		written := 0
		if r.node != nil {
			written = r.node.written(path)
		}
		client := r.client
		if st.broken && r.once != nil {
			client = r.once
		}
		url := "http://" + r.caddy.addr + path
		var aside sync.WaitGroup
		if st.meanwhile != nil {
			aside.Go(func() {
				for range 400 { // until the origin has the request that this one is to meet
					if len(s.since(x.before)) > 0 {
						break
					}
					pause(5 * time.Millisecond)
				}
				ask(r.client, url+st.meanwhile.suffix, st.meanwhile)
			})
		}
		x.got = ask(client, url+st.suffix, x.step)
		aside.Wait()
		x.waitFor(x.before + st.asked + st.later)
		r.settle(path, written, x.stores())
		x.received = s.since(x.before)
		if problems := x.judge(); len(problems) > 0 {
			t.Fatalf("step %d of %d, %s", i+1, len(w.steps), x.report(problems))
		}
	}
}
