package fluster

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-fluster/caddy-fluster/queue"
)

func keepAll(string) bool { return true }

// delivered turns a request into a message and back.
func delivered(t *testing.T, r *http.Request) *http.Request {
	t.Helper()
	m, err := messageOf(r, keepAll, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	out, err := requestOf(&queue.Delivery{ID: "1", Header: m.Header, Body: []byte("body"), Size: 4})
	if err != nil {
		t.Fatalf("%v, of %q", err, m.Header)
	}
	return out
}

func TestMessageKeepsTheRequestByteForByte(t *testing.T) {
	for name, test := range map[string]struct {
		uri    string
		header http.Header
		want   http.Header // nil: header
	}{
		"plain":              {"/a/b?c=d", http.Header{"Content-Type": {"text/plain"}, "X-A": {""}}, nil},
		"escapes as written": {"/a%2Fb/%c3%A9//../x?q=%20+&&=", http.Header{}, nil},
		"an empty query":     {"/a?", http.Header{}, nil},
		"bytes in the path":  {"/\xff\xfe?\xc3(", http.Header{}, nil},
		"several values":     {"/", http.Header{"X-A": {"1", "", "2, 3"}}, nil},
		"bytes in a value":   {"/", http.Header{"X-A": {"\xff\xe9"}}, nil},
		"names with a meaning": {"/", http.Header{"Reply_to": {"somewhere"}, "Correlation_id": {"x"}, "Message_id": {"y"},
			"X-Fluster-Method": {"DELETE"}, "X-Fluster-Exact": {"[]"}}, nil},
		"a name as handlers write it": {"/", http.Header{"x-lower": {"1"}, "X-Lower": {"2"}}, nil},
		"an encoded body":             {"/", http.Header{"Content-Encoding": {"gzip"}}, nil},
		"never kept": {"/", http.Header{"Connection": {"close, X-Hop"}, "X-Hop": {"1"}, "Keep-Alive": {"5"}, "Te": {"trailers"}, "Upgrade": {"x"},
			"Transfer-Encoding": {"chunked"}, "Proxy-Authorization": {"x"}, "Prefer": {"respond-async"}, "Expect": {"100-continue"}, "Content-Length": {"9"},
			"Fluster-Delay": {"3s"}, "Fluster-Message-Id": {"x"}, "Host": {"x"}, "Accept": {"*/*"}}, http.Header{"Accept": {"*/*"}}},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest("PATCH", "http://example.com/", nil)
			u, err := url.ParseRequestURI(test.uri)
			if err != nil {
				t.Fatal(err)
			}
			r.URL, r.RequestURI, r.Header = u, test.uri, test.header
			got := delivered(t, r)
			want := test.want
			if want == nil {
				want = test.header
			}
			if diff := cmp.Diff(want, got.Header); diff != "" {
				t.Errorf("header (-want +got):\n%s", diff)
			}
			if got.Method != "PATCH" || got.RequestURI != test.uri || got.Host != "example.com" || got.URL.Path != u.Path || got.URL.RawQuery != u.RawQuery {
				t.Errorf("got %s %q (%q) of %s, want %q", got.Method, got.RequestURI, got.URL, got.Host, test.uri)
			}
			if b, err := io.ReadAll(got.Body); string(b) != "body" || err != nil || got.ContentLength != 4 {
				t.Errorf("got body %q (%d), %v", b, got.ContentLength, err)
			}
		})
	}
}

// TestMessageFields makes headers at random; what is kept must come back equal.
func TestMessageFields(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	names := []string{"X-A", "X-Bb", "Cookie", "Reply_to", "X-Fluster-Uri", "Content-Type", "x-raw", "Accept"}
	alphabet := []rune("ab ,;=\"\\é\uFFFD\x80")
	for range 2000 {
		h := http.Header{}
		for range rnd.IntN(6) {
			var v strings.Builder
			for range rnd.IntN(8) {
				if rnd.IntN(8) == 0 {
					v.WriteByte(byte(128 + rnd.IntN(128)))
				} else {
					v.WriteRune(alphabet[rnd.IntN(len(alphabet))])
				}
			}
			name := names[rnd.IntN(len(names))]
			h[name] = append(h[name], strings.Trim(v.String(), " "))
		}
		r := httptest.NewRequest("POST", "http://example.com/", nil)
		r.Header = h.Clone()
		if diff := cmp.Diff(h, delivered(t, r).Header); diff != "" {
			t.Fatalf("seed %d (-want +got):\n%s", seed, diff)
		}
	}
}

func TestMessageTellsWhereItIsFrom(t *testing.T) {
	r := httptest.NewRequest("POST", "https://example.com:8443/", nil)
	r.RemoteAddr = "[2001:db8::1]:4711"
	got := delivered(t, r)
	if got.RemoteAddr != "[2001:db8::1]:0" || got.TLS == nil || got.TLS.ServerName != "example.com" || got.Host != "example.com:8443" {
		t.Errorf("got %s, TLS %v, host %s", got.RemoteAddr, got.TLS, got.Host)
	}
}

func TestMessageOfARewrittenRequest(t *testing.T) {
	r := httptest.NewRequest("POST", "http://example.com/hooks/a%2Fb?x", nil)
	r.URL.Path, r.URL.RawPath = "/a/b", "/a%2Fb" // without r.RequestURI, as some handlers do it
	if got := delivered(t, r).RequestURI; got != "/a%2Fb?x" {
		t.Errorf("got %q", got)
	}
	r = httptest.NewRequest("POST", "http://example.com/", nil)
	r.RequestURI = "http://example.com/a?b" // absolute form
	r.URL, _ = url.Parse(r.RequestURI)
	if got := delivered(t, r).RequestURI; got != "/a?b" {
		t.Errorf("got %q", got)
	}
}

func TestMessageBoundsTheHeader(t *testing.T) {
	r := httptest.NewRequest("POST", "http://example.com/", nil)
	r.Header.Set("X-A", strings.Repeat("a", maxFields))
	if _, err := messageOf(r, keepAll, time.Now()); !errors.Is(err, errFieldsTooLarge) {
		t.Errorf("got %v", err)
	}
	if _, err := messageOf(r, func(name string) bool { return name != "X-A" }, time.Now()); err != nil {
		t.Errorf("without the field: %v", err)
	}
}

func TestRequestOfForeignMessages(t *testing.T) {
	for name, test := range map[string]struct {
		header map[string]string
		want   string // method, URI and header; "error"
	}{
		"nothing": {nil, "POST / map[]"},
		"FastStream": {map[string]string{"correlation_id": "c", "content-type": "application/json", "reply_to": "r", "message_id": "m", "trace": "t"},
			"POST / map[Content-Type:[application/json] Correlation-Id:[c] Trace:[t]]"},
		"no fields": {map[string]string{"a b": "c", "x": "a\r\nb: c", "y\n": "z"}, "POST / map[]"},
		"fields of a connection": {map[string]string{"connection": "x-hop", "x-hop": "1", "transfer-encoding": "chunked", "content-length": "1", "host": "evil"},
			"POST / map[]"},
		"control fields":       {map[string]string{"fluster-attempt": "1"}, "POST / map[]"},
		"a method":             {map[string]string{headerMethod: "GET / HTTP/1.1\r\nx:"}, "error"},
		"a host":               {map[string]string{headerHost: "a\r\nb"}, "error"},
		"a URI":                {map[string]string{headerMethod: "GET", headerURI: "/a b\r\n"}, "error"},
		"an absolute URI":      {map[string]string{headerMethod: "GET", headerURI: "http://evil/"}, "error"},
		"exact is no JSON":     {map[string]string{headerExact: "["}, "error"},
		"exact is other JSON":  {map[string]string{headerExact: `[["a"]]`}, "error"},
		"exact with bad names": {map[string]string{headerExact: `[["a b","YQ=="],["x","DQo="],["Host","YQ=="],["X","YQ=="]]`}, "POST / map[X:[a]]"},
	} {
		t.Run(name, func(t *testing.T) {
			got := "error"
			if r, err := requestOf(&queue.Delivery{ID: "1", Header: test.header}); err == nil {
				got = r.Method + " " + r.RequestURI + " " + fmt.Sprint(r.Header)
			}
			if got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

func TestResponsesAsMessages(t *testing.T) {
	h := http.Header{"Content-Type": {"text/html"}, "Set-Cookie": {"a", "b"}, "Connection": {"close"}, "X": {"\xff"}}
	status, got, body, err := responseOf(&queue.Response{Header: responseHeader(422, h), Body: []byte("b")})
	delete(h, "Connection")
	if diff := cmp.Diff(h, got); status != 422 || string(body) != "b" || err != nil || diff != "" {
		t.Errorf("got %d %q %v, header (-want +got):\n%s", status, body, err, diff)
	}
	status, got, _, err = responseOf(&queue.Response{Header: responseHeader(200, http.Header{"X": {strings.Repeat("a", maxFields)}, "Content-Type": {"x"}})})
	if diff := cmp.Diff(http.Header{"Content-Type": {"x"}}, got); status != 200 || err != nil || diff != "" {
		t.Errorf("of one with a huge header: got %d %v, header (-want +got):\n%s", status, err, diff)
	}
	for _, bad := range []string{"x", "99", "100", "1000"} {
		if _, _, _, err := responseOf(&queue.Response{Header: map[string]string{headerStatus: bad}}); err == nil {
			t.Errorf("status %s: no error", bad)
		}
	}
}
