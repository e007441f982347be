package chaos

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

// plain answers all pages alike, fresh for long.
var plain = caddytest.Answer(200, "page", "Cache-Control", "max-age=600")

// loadWith runs a Caddy whose option fluster holds these lines, without the near
// cache.
func loadWith(t *testing.T, lines ...string) *caddytest.Caddy {
	t.Helper()
	o := caddytest.NewOrigin(t, plain)
	global := "fluster {\nnear off\npenalty 100ms 400ms\n" + strings.Join(lines, "\n") + "\n}"
	return caddytest.Load(t, global, "fluster_cache\n"+o.Behind())
}

// wantStored wants a page stored on the one node and served from there.
func wantStored(t *testing.T, c *caddytest.Caddy) {
	t.Helper()
	c.WaitUp(1)
	caddytest.Eventually(t, "a hit on the node", func() bool { return c.Get("/page").Hit("node") })
}

// wantOut wants the node out of use for a reason with this word in it, and
// pages served all the same.
func wantOut(t *testing.T, c *caddytest.Caddy, word string) {
	t.Helper()
	caddytest.Eventually(t, "the node is out of use: "+word, func() bool {
		for _, s := range c.Nodes() {
			return s.State == "penalty" && strings.Contains(s.Reason, word)
		}
		return false
	})
	if r := c.Get("/page"); r.Status != 200 || r.Hit("") || string(r.Body) != "page" {
		t.Errorf("with the node out of use: got %s, want the origin's page", r)
	}
}

// authority makes certificates that one CA has signed.
type authority struct {
	t   *testing.T
	dir string
	ca  *x509.Certificate
	key *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t, dir: t.TempDir()}
	a.issue("ca", &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

// file is where a certificate, or its key, lies.
func (a *authority) file(name string) string { return filepath.Join(a.dir, name+".pem") }

// issue writes the certificate name.pem and its key name-key.pem; the first is
// that of the CA.
func (a *authority) issue(name string, c *x509.Certificate) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	a.check(err)
	c.SerialNumber, c.Subject = big.NewInt(time.Now().UnixNano()), pkix.Name{CommonName: name}
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	if a.ca == nil {
		a.ca, a.key = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, a.ca, &key.PublicKey, a.key)
	a.check(err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	a.check(err)
	a.check(os.WriteFile(a.file(name), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	a.check(os.WriteFile(a.file(name+"-key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600))
}

func (a *authority) check(err error) {
	if err != nil {
		a.t.Helper()
		a.t.Fatal(err)
	}
}

// TestTLS: nodes that speak TLS, want a client certificate, and have a name of
// their own.
func TestTLS(t *testing.T) {
	a := newAuthority(t)
	a.issue("server", &x509.Certificate{DNSNames: []string{"redis.internal"}})
	a.issue("client", &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	port, err := redistest.FreePort()
	a.check(err)
	redistest.Start(t, "--tls-port", strconv.Itoa(port), "--tls-cert-file", a.file("server"), "--tls-key-file", a.file("server-key"),
		"--tls-ca-cert-file", a.file("ca"), "--tls-auth-clients", "yes")
	t.Setenv("CHAOS_CA", a.file("ca"))
	const ca = "ca {env.CHAOS_CA}"
	certificate := "certificate " + a.file("client") + " " + a.file("client-key")
	tests := []struct {
		name, scheme string
		tls          []string
		reason       string // why it is out of use; none if it is to be used
	}{
		{"rediss", "rediss", []string{ca, certificate, "server_name redis.internal"}, ""},
		{"redis with tls", "redis", []string{ca, certificate, "server_name redis.internal"}, ""},
		{"no certificate", "rediss", []string{ca, "server_name redis.internal"}, "certificate"},
		{"another name", "rediss", []string{ca, certificate, "server_name redis.example"}, "redis.example"},
		{"unknown CA", "rediss", []string{certificate, "server_name redis.internal"}, "authority"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := loadWith(t, fmt.Sprintf("nodes %s://127.0.0.1:%d", tt.scheme, port), "tls {\n"+strings.Join(tt.tls, "\n")+"\n}")
			if tt.reason != "" {
				wantOut(t, c, tt.reason)
				return
			}
			wantStored(t, c)
		})
	}
}

// acl is the user of docs/operating.md.
var acl = strings.Fields("--user caddy on >secret ~{fluster:*}* &fluster:* +get +set +mget +unlink +xadd +xrange +publish +subscribe +ping +eval +evalsha +client|setname")

// TestUser: the user that the docs show is enough, its name and password come by
// placeholders, and a wrong password costs the node, tells why, and is told to
// nobody.
func TestUser(t *testing.T) {
	s := redistest.Start(t, acl...)
	t.Setenv("CHAOS_USER", "caddy")
	t.Setenv("CHAOS_PASSWORD", "secret")
	t.Run("right", func(t *testing.T) {
		c := loadWith(t, "nodes "+s.URL(), "username {env.CHAOS_USER}", "password {env.CHAOS_PASSWORD}")
		wantStored(t, c)
		if list := s.Client(t).ClientList(t.Context()).Val(); strings.Count(list, "user=caddy") == 0 {
			t.Errorf("the connections are not those of the user:\n%s", list)
		}
		if a := c.Invalidate(`{"tag":["x"]}`); a.Status != 200 {
			t.Errorf("invalidating as this user: got %s", a)
		}
	})
	t.Run("in the URL", func(t *testing.T) {
		wantStored(t, loadWith(t, "nodes redis://caddy:secret@"+s.Addr()))
	})
	t.Run("wrong", func(t *testing.T) {
		t.Setenv("CHAOS_PASSWORD", "not-the-secret")
		c := loadWith(t, "nodes "+s.URL(), "username {env.CHAOS_USER}", "password {env.CHAOS_PASSWORD}")
		wantOut(t, c, "WRONGPASS")
		if strings.Contains(c.Log(), "not-the-secret") || strings.Contains(string(c.AskAdmin("/fluster/status").Body), "not-the-secret") {
			t.Error("the password is told")
		}
	})
}

// TestSocket: a node on a Unix socket.
func TestSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "redis.sock")
	s := redistest.Start(t, "--unixsocket", path)
	wantStored(t, loadWith(t, "nodes unix://"+path))
	if list := s.Client(t).ClientList(t.Context()).Val(); !strings.Contains(list, path) {
		t.Errorf("no connection by the socket:\n%s", list)
	}
}

// TestDatabase: all that is stored lies in the database that the URL names.
func TestDatabase(t *testing.T) {
	s := redistest.Start(t)
	for _, url := range []string{s.URL() + "?db=2", s.URL() + "/3"} {
		wantStored(t, loadWith(t, "nodes "+url))
	}
	for db, want := range []bool{false, false, true, true} {
		client := redis.NewClient(&redis.Options{Addr: s.Addr(), DB: db})
		t.Cleanup(func() { client.Close() })
		if n := client.DBSize(t.Context()).Val(); n > 0 != want {
			t.Errorf("database %d has %d keys, want some: %t", db, n, want)
		}
	}
}

// TestIPv6: a node at an IPv6 address, where the machine has such.
func TestIPv6(t *testing.T) {
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skip("no IPv6 on this machine:", err)
	}
	l.Close()
	s := redistest.Start(t, "--bind", "127.0.0.1", "::1")
	_, port, _ := net.SplitHostPort(s.Addr())
	wantStored(t, loadWith(t, "nodes redis://[::1]:"+port))
	if list := s.Client(t).ClientList(t.Context()).Val(); !strings.Contains(list, "[::1]:") {
		t.Errorf("no connection by IPv6:\n%s", list)
	}
}
