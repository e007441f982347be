package fluster_test

import (
	"net"
	"net/http"
	"testing"

	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
)

// TestVaryByWhoAsks: C1. The address of a client is told to the origin behind the cache,
// in a field that requests do not have here. What varies by it is for nobody else.
func TestVaryByWhoAsks(t *testing.T) {
	o := caddytest.NewOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		caddytest.Answer(200, "for "+r.Header.Get("X-Forwarded-For"), append(fresh, "Vary", "Accept, x-forwarded-for")...)(w, r)
	})
	c := caddytest.Load(t, "", cached(o))
	for _, ip := range []string{"127.0.0.1", "127.0.0.2", "127.0.0.1"} {
		from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
		client := http.Client{Transport: &http.Transport{DialContext: from.DialContext}}
		resp, err := client.Get("http://" + c.Addr + "/")
		if err != nil {
			t.Fatal(err)
		}
		wantRest(t, resp, "for "+ip)
		client.CloseIdleConnections()
	}
}
