package conformance

import (
	"context"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"time"
)

// host is the Host of all requests that name no other.
const host = "conformance.test"

// interim is a response of the class 1xx.
type interim struct {
	status int
	header http.Header
}

// reply is what the client got, read to its end. err says what went wrong, also
// while the body was read; body is then what came of it.
type reply struct {
	status   int
	header   http.Header
	trailer  http.Header
	body     string
	interims []interim
	err      error
}

func newHTTP1() *http.Client {
	return newClient(&http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64})
}

// newHTTP1Once makes a connection for each request: on one that was used before,
// a request whose answer breaks off is sent again, unasked.
func newHTTP1Once() *http.Client {
	return newClient(&http.Transport{DisableCompression: true, DisableKeepAlives: true})
}

func newHTTP2() *http.Client {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	return newClient(&http.Transport{DisableCompression: true, Protocols: protocols})
}

func newClient(t *http.Transport) *http.Client {
	return &http.Client{
		Transport:     t,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// ask sends one request and reads the answer.
func ask(client *http.Client, url string, s *step) (r reply) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		Got1xxResponse: func(status int, h textproto.MIMEHeader) error {
			r.interims = append(r.interims, interim{status, http.Header(h).Clone()})
			return nil
		},
	})
	var content io.Reader
	if s.content != "" {
		content = strings.NewReader(s.content)
	}
	req, err := http.NewRequestWithContext(ctx, s.method, url, content)
	if err != nil {
		return reply{err: err}
	}
	req.Host = host
	req.Header["User-Agent"] = nil // none, unless the row has one
	for name, value := range pairs(s.fields) {
		if name == "Host" {
			req.Host = value
			continue
		}
		req.Header[http.CanonicalHeaderKey(name)] = append(req.Header[http.CanonicalHeaderKey(name)], value)
	}
	resp, err := client.Do(req)
	if err != nil {
		r.err = err
		return r
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	r.status, r.header, r.trailer, r.body, r.err = resp.StatusCode, resp.Header, resp.Trailer, string(b), err
	return r
}

// pairs goes through a list of names and values in turn.
func pairs(list []string) func(func(name, value string) bool) {
	return func(yield func(name, value string) bool) {
		for i := 0; i+1 < len(list); i += 2 {
			if !yield(list[i], list[i+1]) {
				return
			}
		}
	}
}
