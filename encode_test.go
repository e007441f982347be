package fluster_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
)

// pageText is a page that is worth compressing.
var pageText = strings.Repeat("All work and no play makes a dull page. ", 500)

// pages answers by the path: what compressing has to heed.
func pages(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "max-age=600")
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Etag", `"one"`)
	switch r.URL.Path {
	case "/image":
		h.Set("Content-Type", "image/png")
	case "/kept":
		h.Set("Cache-Control", "max-age=600, no-transform")
	case "/short":
		io.WriteString(w, "short")
		return
	case "/weak":
		h.Set("Etag", `W/"one"`)
	case "/validated":
		h.Set("Cache-Control", "no-cache")
		if r.Header.Get("If-None-Match") == `"one"` {
			w.WriteHeader(304)
			return
		}
	case "/own":
		h.Set("Vary", "Accept-Encoding")
		if r.Header.Get("Accept-Encoding") == "gzip" {
			h.Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			io.WriteString(z, "by the origin: "+pageText)
			z.Close()
			return
		}
	}
	h.Set("Content-Length", fmt.Sprint(len(pageText)))
	io.WriteString(w, pageText)
}

func gunzip(t *testing.T, b []byte) string {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatalf("%.20q is not gzip: %v", b, err)
	}
	text, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestEncode: a response is compressed once for each coding, and served so to
// whoever takes it.
func TestEncode(t *testing.T) {
	o := caddytest.NewOrigin(t, pages)
	c := caddytest.Load(t, "", cached(o, "encode zstd gzip"))
	miss := wantMiss(t, c, "/", "Accept-Encoding", "gzip")
	if gunzip(t, miss.Body) != pageText || miss.Header.Get("Content-Encoding") != "gzip" ||
		miss.Header.Get("Etag") != `"one-gzip"` || miss.Header.Get("Vary") != "Accept-Encoding" {
		t.Errorf("a miss: got %s with %v", miss, miss.Header)
	}
	for _, accept := range []string{"gzip", "gzip, deflate, br", "deflate, GZIP;q=0.5, zstd;q=0.1"} {
		r := wantHit(t, c, "near", "/", "Accept-Encoding", accept)
		if !bytes.Equal(r.Body, miss.Body) || r.Header.Get("Content-Encoding") != "gzip" || r.Header.Get("Etag") != `"one-gzip"` {
			t.Errorf("a hit for %q: got %s with %v, want what was sent before", accept, r, r.Header)
		}
	}
	if r := c.Get("/", "Accept-Encoding", "gzip", "If-None-Match", `"one-gzip"`); r.Status != 304 || !r.Hit("near") {
		t.Errorf("If-None-Match: got %s, want a 304", r)
	}
	if r := c.Get("/", "Accept-Encoding", "gzip", "Range", "bytes=0-9"); r.Status != 200 || !bytes.Equal(r.Body, miss.Body) {
		t.Errorf("Range of what was compressed here: got %s, want all of it", r)
	}
	z := wantMiss(t, c, "/", "Accept-Encoding", "gzip, deflate, br, zstd")
	if !bytes.HasPrefix(z.Body, []byte{0x28, 0xb5, 0x2f, 0xfd}) || z.Header.Get("Content-Encoding") != "zstd" {
		t.Errorf("a client that takes zstd: got %s with %v", z, z.Header)
	}
	wantHit(t, c, "near", "/", "Accept-Encoding", "zstd")
	if r := wantMiss(t, c, "/"); string(r.Body) != pageText || r.Header.Get("Content-Encoding") != "" || r.Header.Get("Etag") != `"one"` {
		t.Errorf("a client that takes no coding: got %s with %v", r, r.Header)
	}
	for _, accept := range []string{"", "br", "identity", "identity, gzip;q=0.5", "gzip;q=0"} {
		wantBody(t, wantHit(t, c, "near", "/", "Accept-Encoding", accept), 200, pageText)
	}
	wantBody(t, wantHit(t, c, "near", "/", "Range", "bytes=0-2"), 206, pageText[:3])
	if o.Count() != 3 {
		t.Errorf("the origin was asked %d times, want once for each coding", o.Count())
	}
	if got := o.Last().Header.Get("Accept-Encoding"); got != "identity" {
		t.Errorf("the origin was asked for %q, want identity", got)
	}
}

// TestEncodeHeeds: what is not to be compressed is stored as it came, once.
func TestEncodeHeeds(t *testing.T) {
	o := caddytest.NewOrigin(t, pages)
	c := caddytest.Load(t, "", "encode gzip\n"+cached(o, "encode gzip"))
	for _, path := range []string{"/image", "/kept", "/short"} {
		first := wantMiss(t, c, path, "Accept-Encoding", "gzip")
		if first.Header.Get("Content-Encoding") != "" {
			t.Errorf("%s: got Content-Encoding %q, want it as it came", path, first.Header["Content-Encoding"])
		}
		if path != "/short" { // outside the cache encode makes it vary
			wantHit(t, c, "near", path)
		}
	}
	if r := wantHit(t, c, "near", "/own", "Accept-Encoding", "gzip"); gunzip(t, r.Body) != "by the origin: "+pageText {
		t.Errorf("what the origin has compressed: got %s", r)
	}
	wantBody(t, wantHit(t, c, "near", "/own"), 200, pageText)
	// An encode handler before the cache does nothing more to a hit.
	for range 2 {
		if r := wantHit(t, c, "near", "/", "Accept-Encoding", "gzip"); gunzip(t, r.Body) != pageText || len(r.Header["Content-Encoding"]) != 1 {
			t.Errorf("inside encode: got %s with %v", r, r.Header)
		}
	}
	if r := wantHit(t, c, "near", "/weak", "Accept-Encoding", "gzip"); r.Header.Get("Etag") != `W/"one"` || gunzip(t, r.Body) != pageText {
		t.Errorf("a weak validator: got %v", r.Header)
	}
}

// TestEncodeValidates: a compressed response is validated by the tag that the
// origin knows, and stays as it is.
func TestEncodeValidates(t *testing.T) {
	o := caddytest.NewOrigin(t, pages)
	c := caddytest.Load(t, "", cached(o, "encode gzip"))
	first := wantMiss(t, c, "/validated", "Accept-Encoding", "gzip")
	for range 2 {
		r := c.Get("/validated", "Accept-Encoding", "gzip")
		if got := r.CacheStatus(); got != "fluster; fwd=stale; fwd-status=304; stored" {
			t.Errorf("got %q, want it confirmed", got)
		}
		if !bytes.Equal(r.Body, first.Body) || r.Header.Get("Etag") != `"one-gzip"` || r.Header.Get("Content-Encoding") != "gzip" {
			t.Errorf("what was confirmed: got %s with %v", r, r.Header)
		}
	}
	if got := o.Last().Header.Get("If-None-Match"); got != `"one"` {
		t.Errorf("the origin got If-None-Match %q, want its own tag", got)
	}
	if r := c.Get("/validated", "Accept-Encoding", "gzip", "Range", "bytes=0-9"); r.Status != 200 {
		t.Errorf("Range of what was confirmed: got %s, want all of it", r)
	}
}

// TestEncodeLong: C1. A long body is compressed on its way in, and comes from the
// node as it was sent; a chunk that is gone breaks it off, as the origin has no
// such bytes.
func TestEncodeLong(t *testing.T) {
	text := fmt.Sprintf("%x", bodyOf(4<<20))
	node, _, c := largeSite(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=600")
		w.Header().Set("Etag", `"one"`)
		w.Header().Set("Content-Type", "text/plain")
		io.WriteString(w, text)
	}, "encode gzip")
	for _, accept := range []string{"gzip", "gzip", "identity"} {
		r := wantHit(t, c, "node", "/", "Accept-Encoding", accept)
		got := string(r.Body)
		if accept == "gzip" {
			got = gunzip(t, r.Body)
		}
		if got != text {
			t.Errorf("%s: got another text of %d bytes, want %d", accept, len(got), len(text))
		}
	}
	for _, key := range chunkKeys(t, node, "*:6") {
		deleteKey(t, node, key)
	}
	if r := c.Get("/", "Accept-Encoding", "gzip"); r.Err == nil {
		t.Errorf("a compressed body with a hole: got %d bytes [%s], want it broken off", len(r.Body), r.CacheStatus())
	}
}

// TestEncodeBehind: C1. What was compressed behind the cache, as the entity tag says, is
// other bytes each time: it is neither served in parts nor continued.
func TestEncodeBehind(t *testing.T) {
	var n atomic.Int32
	node, o, c := largeSite(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=600")
		w.Header().Set("Etag", `"one-gzip"`)
		w.Header().Set("Content-Encoding", "gzip")
		body := bytes.Repeat([]byte{'0' + byte(n.Add(1))}, 4<<20) // as it came out this time
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
	})
	isOfOneTime := func(r caddytest.Response) bool { return strings.Trim(string(r.Body), string(r.Body[:1])) == "" }
	wantHit(t, c, "node", "/", "Accept-Encoding", "gzip")
	if r := wantHit(t, c, "node", "/", "Accept-Encoding", "gzip", "Range", "bytes=0-9"); r.Status != 200 || len(r.Body) != 4<<20 || !isOfOneTime(r) {
		t.Errorf("Range: got %s, want all of it", r)
	}
	for _, key := range chunkKeys(t, node, "*:6") {
		deleteKey(t, node, key)
	}
	if r := c.Get("/", "Accept-Encoding", "gzip"); r.Err == nil {
		t.Errorf("a body with a hole: got %d bytes [%s], want it broken off", len(r.Body), r.CacheStatus())
	}

	// A part of one time is not joined to what is missing, which is of another time.
	for _, part := range []string{"bytes=0-99", "bytes=50-149"} {
		r := c.Get("/part", "Accept-Encoding", "gzip", "Range", part)
		if r.Status != 206 || !isOfOneTime(r) {
			t.Errorf("%s: got %s, want a part of one time", part, r)
		}
	}
	if got := o.Last().Header.Get("Range"); got != "bytes=50-149" {
		t.Errorf("the origin was asked for %q, want all that the client wants", got)
	}
}
