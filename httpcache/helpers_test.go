package httpcache

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// epoch is the instant at which the responses of the tests come.
var epoch = time.Date(2026, time.March, 14, 15, 9, 26, 0, time.UTC)

// at returns the HTTP date of the instant that is seconds after epoch.
func at(seconds int) string {
	return epoch.Add(time.Duration(seconds) * time.Second).Format(http.TimeFormat)
}

// header makes a header of lines such as "Vary: Foo".
func header(lines ...string) http.Header {
	h := http.Header{}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ":")
		h.Add(name, strings.TrimPrefix(value, " "))
	}
	return h
}

// get is a GET of https://example.com/a?b=1 with the header lines.
func get(lines ...string) Request {
	u, err := url.Parse("https://example.com/a?b=1")
	if err != nil {
		panic(err)
	}
	return Request{Method: http.MethodGet, URL: u, Header: header(lines...)}
}

// atOnce are the times of a response that took no time.
var atOnce = Times{Sent: epoch, Received: epoch}

// store asks for the verdict on a 200 with the header lines.
func store(p Policy, lines ...string) Verdict {
	return p.MayStore(get(), http.StatusOK, header(lines...), atOnce)
}

// seconds is an instant that many seconds after epoch.
func seconds(n float64) time.Time { return epoch.Add(time.Duration(n * float64(time.Second))) }

func equal[T comparable](t *testing.T, name string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", name, got, want)
	}
}
