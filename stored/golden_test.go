package stored_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/caddy-fluster/caddy-fluster/httpcache"
	"github.com/caddy-fluster/caddy-fluster/stored"
	"github.com/cespare/xxhash/v2"
	"github.com/google/go-cmp/cmp"
)

var (
	update = flag.Bool("update", false, "write the golden files of the current version anew")
	seed   = flag.Uint64("seed", uint64(time.Now().UnixNano()), "seed of the round-trip test")
)

// golden is what the golden files of version 1 hold. A test that fails on these says that nodes full of responses would be
// read wrongly after an update: a change of the format is a new version, with files of its own.
var golden = map[string]any{
	"page":     page(),
	"chunks":   chunked(),
	"empty":    &stored.Response{Key: "k", Status: 204, Body: []byte{}},
	"variants": variants(),
}

// page is an ordinary response, with something in every field.
func page() *stored.Response {
	return &stored.Response{
		Key:    "GET\x00https\x00example.com\x00/a?b=1\x00accept-language=de",
		URL:    "https://example.com/a?b=1",
		Status: 200,
		Header: stored.HeaderOf(
			stored.Field{Name: "Content-Type", Value: "text/html; charset=utf-8"},
			stored.Field{Name: "Link", Value: "</a.css>; rel=preload"},
			stored.Field{Name: "Link", Value: "</b.css>; rel=preload"},
			stored.Field{Name: "X-Empty", Value: ""},
		),
		Tags:      []string{"product-42", "home"},
		Groups:    []string{"a group"},
		Nominated: []stored.Field{{Name: "accept-language", Value: "de"}},
		Terms: httpcache.Terms{
			Received: 1767225600123, Born: 1767225599000, FreshUntil: 1767225900000,
			StaleWhileRevalidate: 30000, StaleIfError: -1, Flags: 0x8005,
		},
		Stamp:    stored.Stamp{Inc: 0xfedcba9876543210, Seq: 7, Nonce: math.MaxUint64},
		Body:     []byte("<!doctype html>\r\n\r\n\x00\xff"),
		BodySize: 21,
	}
}

// chunked is a response whose body is in three chunks.
func chunked() *stored.Response {
	return &stored.Response{
		Key: "key", URL: "http://example.com/", Status: 200,
		Header:   stored.HeaderOf(stored.Field{Name: "Content-Type", Value: "video/mp4"}),
		BodySize: 2<<18 + 1,
		Chunks:   &stored.Chunks{Token: 99, Size: 1 << 18, Count: 3, Sums: []uint64{1, math.MaxUint64, 3}},
	}
}

// variants is a list of two variants and one that nominates nothing.
func variants() *stored.Variants {
	return &stored.Variants{Key: "key", List: []stored.Variant{
		{
			Nominated: []stored.Field{{Name: "accept-encoding", Value: "gzip"}, {Name: "accept-language", Value: "de"}},
			Key:       "key\x00gzip\x00de", Language: "de", Stored: 1767225600123,
		},
		{Key: "key\x00", Stored: -1},
		{Nominated: []stored.Field{{Name: "accept-encoding", Value: ""}}, Key: "key\x00\x00", Language: "en"},
	}}
}

// encode encodes a response or variants.
func encode(v any) []byte {
	switch v := v.(type) {
	case *stored.Response:
		return stored.AppendEncode(nil, v)
	case *stored.Variants:
		return stored.AppendEncodeVariants(nil, v)
	}
	panic("neither a response nor variants")
}

// decode returns the result of Decode that is not nil, and fails if both or none are.
func decode(t testing.TB, b []byte) (any, error) {
	t.Helper()
	r, v, err := stored.Decode(b)
	switch {
	case err == nil && (r == nil) == (v == nil), err != nil && (r != nil || v != nil):
		t.Fatalf("Decode(%q): got %v, %v, %v, want exactly one of them", b, r, v, err)
	case err != nil && !errors.Is(err, stored.ErrFormat) && !errors.Is(err, stored.ErrVersion):
		t.Fatalf("Decode(%q): got error %v, want ErrFormat or ErrVersion", b, err)
	}
	decodeApart(t, b, r, v, err)
	if r != nil {
		return r, err
	}
	return v, err
}

// decodeApart checks that DecodeApart says the same, and that no string of a response with its body shares memory with b.
func decodeApart(t testing.TB, b []byte, wantR *stored.Response, wantV *stored.Variants, want error) {
	t.Helper()
	lent := bytes.Clone(b)
	r, v, err := stored.DecodeApart(lent)
	if r != nil && r.Chunks == nil {
		clear(lent[:len(lent)-len(r.Body)])
	}
	if !errors.Is(err, want) || !reflect.DeepEqual(r, wantR) || !reflect.DeepEqual(v, wantV) {
		t.Fatalf("DecodeApart(%q): got %v, %v, %v, want %v, %v, %v", b, r, v, err, wantR, wantV, want)
	}
}

// seal puts the right checksum into b, as whoever means harm would.
func seal(b []byte) []byte {
	if len(b) >= 12 {
		binary.LittleEndian.PutUint64(b[4:], xxhash.Sum64(b[12:]))
	}
	return b
}

func TestGolden(t *testing.T) {
	for name, want := range golden {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join("..", "testdata", "stored", "v1-"+name+".bin")
			if *update {
				if err := os.WriteFile(path, encode(want), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			got, err := decode(t, b)
			if err != nil {
				t.Fatalf("decoding %s: %v", path, err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("decoding %s (-want +got):\n%s", path, diff)
			}
			if diff := cmp.Diff(b, encode(want)); diff != "" {
				t.Errorf("encoding what is in %s (-want +got):\n%s", path, diff)
			}
		})
	}
}

func TestAppendEncodeAppends(t *testing.T) {
	for name, v := range golden {
		want := append([]byte("before"), encode(v)...)
		got := []byte("before")
		if r, ok := v.(*stored.Response); ok {
			got = stored.AppendEncode(got, r)
		} else {
			got = stored.AppendEncodeVariants(got, v.(*stored.Variants))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
