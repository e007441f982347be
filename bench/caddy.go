package main

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/caddy-fluster/caddy-fluster"
)

// childVariable tells this program that it is to be something else.
const childVariable = "FLUSTER_BENCH_CHILD"

// mainIfChild is the program as Caddy or as the origin.
func mainIfChild() bool {
	switch os.Getenv(childVariable) {
	case "caddy":
		caddycmd.Main()
		return true
	case "origin":
		serveOrigin(os.Args[1])
		return true
	}
	return false
}

// child returns this program as something else.
func (l *Lab) child(what string, args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), childVariable+"="+what, "HOME="+l.dir, "XDG_DATA_HOME="+l.dir, "XDG_CONFIG_HOME="+l.dir)
	return cmd
}

// startCaddy starts a Caddy with one site, and returns its address.
func (l *Lab) startCaddy(name, global, site string) (*Process, string, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, "", err
	}
	config := fmt.Sprintf("{\n\tadmin off\n\tauto_https off\n\tpersist_config off\n\tlog {\n\t\tlevel ERROR\n\t}\n\t%s\n}\nhttp://%s {\n\t%s\n}\n", global, addr, site)
	file := filepath.Join(l.dir, name+".caddyfile")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, "", err
	}
	p, err := l.start(name, addr, l.child("caddy", "run", "--config", file, "--adapter", "caddyfile"))
	return p, addr, err
}

func init() {
	caddy.RegisterModule(static{})
	httpcaddyfile.RegisterHandlerDirective("bench_static", func(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		s := new(static)
		return s, s.UnmarshalCaddyfile(h.Dispenser)
	})
	httpcaddyfile.RegisterDirectiveOrder("bench_static", httpcaddyfile.Before, "respond")
}

// static is the least that a Caddy handler can do to answer with a body and as
// many header lines as a hit has.
type static struct {
	Size int `json:"size"`

	body   []byte
	length []string
}

// CaddyModule returns the module's information.
func (static) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.bench_static", New: func() caddy.Module { return new(static) }}
}

// UnmarshalCaddyfile reads `bench_static <size>`.
func (s *static) UnmarshalCaddyfile(d *caddyfile.Dispenser) (err error) {
	d.Next()
	if !d.NextArg() {
		return d.ArgErr()
	}
	s.Size, err = strconv.Atoi(d.Val())
	return err
}

// Provision makes the body.
func (s *static) Provision(caddy.Context) error {
	s.body, s.length = make([]byte, s.Size), []string{strconv.Itoa(s.Size)}
	return nil
}

// ServeHTTP answers.
func (s *static) ServeHTTP(w http.ResponseWriter, _ *http.Request, _ caddyhttp.Handler) error {
	h := w.Header()
	for _, l := range hitLines {
		h[l.name] = []string{l.value}
	}
	h["Content-Length"] = s.length
	w.WriteHeader(http.StatusOK)
	_, err := w.Write(s.body)
	return err
}

// hitLines are the header lines that a hit has beside Content-Length, Date and
// Server.
var hitLines = []struct{ name, value string }{
	{"Content-Type", "text/html; charset=utf-8"},
	{"Etag", `"v1"`},
	{"Cache-Control", "max-age=3600"},
	{"Via", "1.1 Caddy"},
	{"Age", "7"},
	{"Cache-Status", "fluster; hit; ttl=3592; detail=near"},
}
