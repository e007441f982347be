package conformance

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// An answer is what the origin sends, as it stands here. The zero value is a
// 200 (OK) without any field but Date and Content-Length.
type answer struct {
	status   int      // 0 is 200
	fields   []string // names and values in turn
	body     string   // "" is a text of its own, unless empty is set
	empty    bool
	dateless bool // no Date is added
	chunked  bool
	unsized  bool // no Content-Length is added
	trailer  []string
	interims []answer
	delay    time.Duration
	cut      int  // how much of the body comes before the connection breaks off; 0 is all of it
	mute     bool // the connection breaks off before the head
}

// received is a request as the origin got it.
type received struct {
	method, uri, host string
	header            http.Header
	body              string
	at                time.Time
}

// An origin is a server that answers each row's requests by its script, byte by
// byte: what Go's own server would not send among it.
type origin struct {
	addr string

	mu      sync.Mutex // guards scripts
	scripts map[string]*script
}

// A script is what one row has the origin do.
type script struct {
	answer func(n int) answer // to the n-th request, from 1

	mu  sync.Mutex // guards got
	got []received
}

// startOrigin starts an origin, which ends with the test.
func startOrigin(t *testing.T) *origin {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := &origin{addr: l.Addr().String(), scripts: map[string]*script{}}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
				o.serve(conn)
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return o
}

// script makes the origin answer requests for path, and all beneath it.
func (o *origin) script(path string, answer func(n int) answer) *script {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := &script{answer: answer}
	o.scripts[path] = s
	return s
}

// serve answers the one request of a connection.
func (o *origin) serve(conn net.Conn) {
	req, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		return
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	o.mu.Lock()
	s := o.scripts[rowOf(req.URL.Path)]
	o.mu.Unlock()
	if s == nil {
		fmt.Fprint(conn, "HTTP/1.1 421 Misdirected Request\r\nContent-Length: 0\r\n\r\n")
		return
	}
	n := s.note(received{req.Method, req.RequestURI, req.Host, req.Header, string(body), time.Now()})
	s.answer(n).send(conn, req.Method, req.URL.Path, n)
}

// note takes a request down and returns its number.
func (s *script) note(r received) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, r)
	return len(s.got)
}

// since returns the requests that came after the first n.
func (s *script) since(n int) []received {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]received(nil), s.got[min(n, len(s.got)):]...)
}

// text is the body of the n-th answer of a row.
func (a answer) text(n int) string {
	if a.body == "" && !a.empty {
		return fmt.Sprintf("answer %d", n)
	}
	return a.body
}

// send writes the answer.
func (a answer) send(w io.Writer, method, path string, n int) {
	for _, i := range a.interims {
		fmt.Fprintf(w, "HTTP/1.1 %d Interim\r\n%s\r\n", i.status, lines(i.fields, path))
	}
	pause(a.delay)
	if a.mute {
		return
	}
	fmt.Fprintf(w, "HTTP/1.1 %d Scripted\r\n%s%s\r\n", a.code(), lines(a.fields, path), a.added(n))
	if method == http.MethodHead || !mayHaveBody(a.code()) {
		return
	}
	body := a.text(n)
	if a.cut > 0 {
		body = body[:a.cut]
	}
	if !a.chunked {
		io.WriteString(w, body) //nolint:errcheck // who does not read it, sees it
		return
	}
	fmt.Fprintf(w, "%x\r\n%s\r\n", len(body), body)
	if a.cut == 0 {
		fmt.Fprintf(w, "0\r\n%s\r\n", lines(a.trailer, path))
	}
}

func (a answer) code() int {
	if a.status == 0 {
		return http.StatusOK
	}
	return a.status
}

// added is the head's fields that the row does not give itself.
func (a answer) added(n int) string {
	var b strings.Builder
	if !a.has("Date") && !a.dateless {
		fmt.Fprintf(&b, "Date: %s\r\n", time.Now().UTC().Format(http.TimeFormat))
	}
	switch {
	case a.chunked:
		b.WriteString("Transfer-Encoding: chunked\r\n")
	case !a.has("Content-Length") && !a.unsized && mayHaveBody(a.code()):
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(a.text(n)))
	}
	return b.String()
}

func (a answer) has(name string) bool {
	for n := range pairs(a.fields) {
		if strings.EqualFold(n, name) {
			return true
		}
	}
	return false
}

func mayHaveBody(status int) bool { return status >= 200 && status != 204 && status != 304 }

// lines are fields as they are sent. {path} in a value is the path of the
// request, {row} that of its row.
func lines(fields []string, path string) string {
	known := strings.NewReplacer("{path}", path, "{row}", rowOf(path))
	var b strings.Builder
	for name, value := range pairs(fields) {
		fmt.Fprintf(&b, "%s: %s\r\n", name, known.Replace(value))
	}
	return b.String()
}

// rowOf is the path of the row to which a request's path belongs: /site/row,
// and what a step adds to it.
func rowOf(path string) string {
	words := strings.SplitN(path, "/", 4)
	return strings.Join(words[:min(3, len(words))], "/")
}
