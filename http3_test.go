package fluster

import (
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/quic-go/quic-go/http3"
)

// TestHTTP3: C6. Over HTTP/3, where no field need say that a GET has no content, it is
// cached as over the others, and one that has content reaches the origin whole.
func TestHTTP3(t *testing.T) {
	long := strings.Repeat("long", 1<<18)
	s := newSite(t, new(Cache))
	s.origin = func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=600")
		io.WriteString(w, "page ") //nolint:errcheck // the client sees
		if r.URL.Path == "/long" {
			io.WriteString(w, long) //nolint:errcheck // the client sees
		}
		if _, err := io.Copy(w, r.Body); err != nil || r.Method == http.MethodGet && (r.Body == http.NoBody) != (r.ContentLength == 0) {
			t.Errorf("%s: the content is %T of length %d, %v", r.URL, r.Body, r.ContentLength, err)
		}
	}
	ask := s.overHTTP3()
	tests := []struct {
		name, method, path string
		content            io.Reader
		want, status       string
	}{
		{"miss", "GET", "/", nil, "page ", "stored"},
		{"hit", "GET", "/", nil, "page ", "hit"},
		{"hit of HEAD", "HEAD", "/", nil, "", "hit"},
		{"long miss", "GET", "/long", nil, "page " + long, "stored"},
		{"long hit", "GET", "/long", nil, "page " + long, "hit"},
		{"content", "GET", "/", io.MultiReader(strings.NewReader("x"), strings.NewReader("yz")), "page xyz", "fwd=bypass"},
		{"content of known length", "GET", "/", strings.NewReader("xyz"), "page xyz", "fwd=bypass"},
		{"long content", "GET", "/", io.MultiReader(strings.NewReader(long)), "page " + long, "fwd=bypass"},
		{"content that comes late", "GET", "/", io.MultiReader(late{}, strings.NewReader("late")), "page late", "fwd=bypass"},
		{"no content, of unknown length", "GET", "/", io.MultiReader(late{}), "page ", "hit"},
		{"POST", "POST", "/other", io.MultiReader(strings.NewReader("x")), "page x", "fwd=method"},
	}
	for _, tt := range tests {
		r := ask(tt.method, tt.path, tt.content)
		body, err := io.ReadAll(r.Body)
		r.Body.Close()
		if status := r.Header.Get("Cache-Status"); err != nil || r.ProtoMajor != 3 || string(body) != tt.want || !strings.Contains(status, tt.status) {
			t.Errorf("%s: got %s %d %.20q (%d bytes) [%s] %v, want %.20q (%d bytes) [%s]", tt.name, r.Proto, r.StatusCode, body, len(body), status, err, tt.want, len(tt.want), tt.status)
		}
	}
}

// late is a part of a body that is empty, and takes its time.
type late struct{}

func (late) Read([]byte) (int, error) {
	time.Sleep(200 * time.Millisecond)
	return 0, io.EOF
}

// overHTTP3 serves the site over HTTP/3 and returns what asks it.
func (s *site) overHTTP3() (ask func(method, path string, content io.Reader) *http.Response) {
	s.t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	server := &http3.Server{TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate(s.t)}}, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
			s.origin(w, r)
			return nil
		})
		if err := s.ServeHTTP(w, caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, nil), next); err != nil {
			s.t.Errorf("%s %s: %v", r.Method, r.URL, err)
		}
	})}
	go server.Serve(conn) //nolint:errcheck // it is closed
	client := &http3.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableCompression: true}
	s.t.Cleanup(func() {
		client.Close()
		server.Close()
		conn.Close()
	})
	return func(method, path string, content io.Reader) *http.Response {
		s.t.Helper()
		r, err := http.NewRequestWithContext(s.t.Context(), method, "https://"+conn.LocalAddr().String()+path, content)
		if err != nil {
			s.t.Fatal(err)
		}
		answer, err := client.RoundTrip(r)
		if err != nil {
			s.t.Fatalf("%s %s: %v", method, path, err)
		}
		return answer
	}
}

// certificate returns one that nobody trusts.
func certificate(t *testing.T) tls.Certificate {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(nil, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private}
}
