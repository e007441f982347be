package fluster

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/google/go-cmp/cmp"

	"github.com/caddy-fluster/caddy-fluster/queue"
)

// TestJudge: what comes of a delivery by how it was answered.
func TestJudge(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	const retry, done, dead = queue.Retry, queue.Done, queue.Dead
	wait := func(v string) http.Header { return http.Header{"Retry-After": {v}} }
	tests := []struct {
		name   string
		words  []string // retry_status; nil: the default
		status int
		header http.Header
		err    error
		want   queue.Result
	}{
		{name: "200", status: 200, want: queue.Result{Outcome: done, Status: 200}},
		{name: "299", status: 299, want: queue.Result{Outcome: done, Status: 299}},
		{name: "3xx is a failure", status: 302, want: queue.Result{Outcome: retry, Status: 302, Reason: "302 Found"}},
		{name: "3xx with seconds", status: 307, header: wait("7"), want: queue.Result{Outcome: retry, Status: 307, Reason: "307 Temporary Redirect", After: 7 * time.Second}},
		{name: "101 is a failure", status: 101, want: queue.Result{Outcome: retry, Status: 101, Reason: "101 Switching Protocols"}},
		{name: "400", status: 400, want: queue.Result{Outcome: dead, Status: 400, Reason: "400 Bad Request"}},
		{name: "408", status: 408, want: queue.Result{Outcome: retry, Status: 408, Reason: "408 Request Timeout"}},
		{name: "425", status: 425, want: queue.Result{Outcome: retry, Status: 425, Reason: "425 Too Early"}},
		{name: "429 with seconds", status: 429, header: wait("7"), want: queue.Result{Outcome: retry, Status: 429, Reason: "429 Too Many Requests", After: 7 * time.Second}},
		{name: "503 with a date", status: 503, header: wait("Sun, 22 Nov 2026 12:01:30 GMT"), want: queue.Result{Outcome: retry, Status: 503, Reason: "503 Service Unavailable", After: 90 * time.Second}},
		{name: "503 of a server whose clock is wrong", status: 503,
			header: http.Header{"Retry-After": {"Sun, 22 Nov 2026 10:01:30 GMT"}, "Date": {"Sun, 22 Nov 2026 10:00:00 GMT"}},
			want:   queue.Result{Outcome: retry, Status: 503, Reason: "503 Service Unavailable", After: 90 * time.Second}},
		{name: "Retry-After of a dead letter says nothing", status: 404, header: wait("7"), want: queue.Result{Outcome: dead, Status: 404, Reason: "404 Not Found"}},
		{name: "599", status: 599, want: queue.Result{Outcome: retry, Status: 599, Reason: "599"}},
		{name: "500 where only 503 is retried", words: []string{"503"}, status: 500, want: queue.Result{Outcome: dead, Status: 500, Reason: "500 Internal Server Error"}},
		{name: "3xx where only 503 is retried", words: []string{"503"}, status: 301, want: queue.Result{Outcome: retry, Status: 301, Reason: "301 Moved Permanently"}},
		{name: "4xx all retried", words: []string{"4xx"}, status: 499, want: queue.Result{Outcome: retry, Status: 499, Reason: "499"}},
		{name: "an error", err: errors.New("no"), want: queue.Result{Outcome: retry, Reason: "no"}},
		{name: "an error of a handler", err: caddyhttp.Error(502, errors.New("connection refused")), want: queue.Result{Outcome: retry, Status: 502, Reason: "502 Bad Gateway: connection refused"}},
		{name: "a handler's 404 is not the upstream's", err: caddyhttp.Error(404, nil), want: queue.Result{Outcome: retry, Status: 404, Reason: "404 Not Found"}},
		{name: "cut off after 200", status: 200, err: errCutOff, want: queue.Result{Outcome: retry, Reason: "200 OK, but the response was cut off"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := &QueueDelivery{RetryStatus: tt.words}
			c.setDeliveryDefaults()
			var err error
			if c.retry, err = parseStatuses(c.RetryStatus); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, c.judge(tt.status, tt.header, tt.err, now)); diff != "" {
				t.Errorf("judge (-want +got):\n%s", diff)
			}
		})
	}
}

// TestRetryAfterIsBounded: what a response asks for cannot be for ever, nor negative.
func TestRetryAfterIsBounded(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for v, want := range map[string]time.Duration{
		"":                              0,
		"0":                             0,
		" 3 ":                           3 * time.Second,
		"-3":                            0,
		"3.5":                           0,
		"soon":                          0,
		"18446744073709551615":          maxRetryAfter,
		"99999999999999999999999999":    0,
		"Sun, 22 Nov 2026 11:00:00 GMT": 0,
		"Sun, 22 Nov 2099 12:00:00 GMT": maxRetryAfter,
	} {
		if got := waitAskedFor(http.Header{"Retry-After": {v}}, now); got != want {
			t.Errorf("Retry-After: %s: got %s, want %s", v, got, want)
		}
	}
}

// TestFieldText: any text becomes the value of a field.
func TestFieldText(t *testing.T) {
	for in, want := range map[string]string{
		"plain":                   "plain",
		" a\r\nX-Evil: 1\x00\x7f": "a  X-Evil: 1",
		"\xff\xfe":                "?",
		"grün":                    "grün",
		strings.Repeat("ü", 200):  strings.Repeat("ü", 128),
	} {
		if got := fieldText(in, 257); got != want {
			t.Errorf("fieldText(%q) = %q, want %q", in, got, want)
		}
	}
}

// TestQueueDeliveryRefuses: bad options are errors that name the option.
func TestQueueDeliveryRefuses(t *testing.T) {
	routes := caddyhttp.RouteList{{}}
	for name, tt := range map[string]struct {
		config QueueDelivery
		want   string
	}{
		"attempts":      {QueueDelivery{Attempts: -1}, "attempts must be at least 1"},
		"concurrency":   {QueueDelivery{Concurrency: -1}, "concurrency must be at least 1"},
		"rate":          {QueueDelivery{Rate: -1}, "rate must be positive"},
		"high rate":     {QueueDelivery{Rate: 2e6}, "at most 1000000 a second"},
		"null":          {QueueDelivery{Deliver: []*Destination{nil}}, "without directives"},
		"long name":     {QueueDelivery{Deliver: []*Destination{{Name: strings.Repeat("a", 65), Routes: routes}}}, "at most 64"},
		"backoff":       {QueueDelivery{Backoff: &QueueBackoff{First: caddy.Duration(time.Hour), Longest: 1}}, "must not be above the longest"},
		"breaker":       {QueueDelivery{Breaker: &QueueBreaker{}}, "at least 1 failure"},
		"empty deliver": {QueueDelivery{Deliver: []*Destination{{}}}, "without directives"},
		"unnamed":       {QueueDelivery{Deliver: []*Destination{{Routes: routes}, {Name: "a", Routes: routes}}}, "needs a name"},
		"twice":         {QueueDelivery{Deliver: []*Destination{{Name: "a", Routes: routes}, {Name: "a", Routes: routes}}}, "stands twice"},
		"slash":         {QueueDelivery{Deliver: []*Destination{{Name: "a/b", Routes: routes}}}, "letters, digits"},
	} {
		c := tt.config
		c.setDeliveryDefaults()
		c.destinationNames() // is asked before it is checked
		if err := c.checkDelivery(); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want an error with %q", name, err, tt.want)
		}
	}
	for _, w := range []string{"200", "3xx", "5x", "xx", "1000", "teapot", "-404", "55xx"} {
		if _, err := parseStatuses([]string{w}); err == nil {
			t.Errorf("retry_status %s: got no error", w)
		}
	}
}
