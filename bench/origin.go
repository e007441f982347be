package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// serveOrigin is the origin. Its paths say what it answers:
//
//	/fresh/SIZE/…    a body of that many bytes that may be stored for an hour
//	/private/SIZE/…  one that may not
//	/slow/SIZE/…     as fresh, after a fifth of a second
//	/asked           how often it was asked for a body
func serveOrigin(addr string) {
	var asked atomic.Int64
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/asked" {
			fmt.Fprint(w, asked.Load())
			return
		}
		asked.Add(1)
		kind, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		text, _, _ := strings.Cut(rest, "/")
		size, err := strconv.Atoi(text)
		if err != nil {
			http.NotFound(w, r)
			return
		}
		h := w.Header()
		h["Cache-Control"] = []string{"max-age=3600"}
		switch kind {
		case "private":
			h["Cache-Control"] = []string{"private, no-store"}
		case "slow":
			time.Sleep(200 * time.Millisecond)
		}
		h["Content-Length"] = []string{text}
		h["Content-Type"] = []string{"text/html; charset=utf-8"}
		h["Etag"] = []string{`"v1"`}
		for size > 0 {
			n, err := w.Write(zeros[:min(size, len(zeros))])
			if err != nil {
				return
			}
			size -= n
		}
	})
	fmt.Fprintln(os.Stderr, http.ListenAndServe(addr, nil)) //nolint:gosec // on loopback, for a while
}

var zeros = make([]byte, 64<<10)

// startOrigin starts the origin and returns its address.
func (l *Lab) startOrigin() (*Process, string, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, "", err
	}
	p, err := l.start("origin", addr, l.child("origin", addr))
	return p, addr, err
}

// askedOf returns how often the origin was asked for a body.
func askedOf(addr string) (int, error) {
	r, err := http.Get("http://" + addr + "/asked") //nolint:noctx // it answers at once
	if err != nil {
		return 0, err
	}
	defer r.Body.Close() //nolint:errcheck // it was read
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(string(b))
}
