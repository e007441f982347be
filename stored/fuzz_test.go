package stored_test

import (
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-fluster/caddy-fluster/httpcache"
	"github.com/caddy-fluster/caddy-fluster/stored"
)

// FuzzDecode decodes what it is given as it is and, so that more than the checksum is tried, with the right checksum.
func FuzzDecode(f *testing.F) {
	for _, v := range golden {
		f.Add(encode(v))
	}
	f.Add([]byte(nil))
	f.Add([]byte("flu\x01"))
	f.Add([]byte("flu\x02 of a time to come"))
	f.Fuzz(func(t *testing.T, b []byte) {
		checkIdentity(t, b)
		checkIdentity(t, seal(append([]byte(nil), b...)))
	})
}

// A generator makes responses and variants at random, such as decode to themselves.
type generator struct{ *rand.Rand }

func (g generator) response() *stored.Response {
	r := &stored.Response{
		Key: g.word(), URL: g.word(), Status: 200 + g.IntN(800),
		Header: stored.HeaderOf(g.fields()...), Tags: g.words(), Groups: g.words(), Nominated: g.fields(),
		Terms: httpcache.Terms{
			Received: int64(g.Uint64()), Born: int64(g.Uint64()), FreshUntil: int64(g.Uint64()),
			StaleWhileRevalidate: int64(g.Uint64()), StaleIfError: int64(g.Uint64()), Flags: httpcache.Flags(g.Uint32()),
		},
		Stamp: stored.Stamp{Inc: g.Uint64(), Seq: g.Uint64(), Nonce: g.Uint64()},
	}
	if g.IntN(2) == 0 {
		r.Body = []byte(g.word())
		r.BodySize = int64(len(r.Body))
		return r
	}
	c := &stored.Chunks{Token: g.Uint64(), Size: 1 + g.IntN(1<<20), Count: 1 + g.IntN(10)}
	for range c.Count {
		c.Sums = append(c.Sums, g.Uint64())
	}
	r.Chunks, r.BodySize = c, int64(c.Size*(c.Count-1)+1+g.IntN(c.Size))
	return r
}

func (g generator) variants() *stored.Variants {
	v := &stored.Variants{Key: g.word()}
	for range g.IntN(stored.MaxVariants + 1) {
		v.List = append(v.List, stored.Variant{
			Nominated: g.fields(), Key: g.word(), Language: g.word(), Stored: int64(g.Uint64()),
		})
	}
	return v
}

func (g generator) fields() []stored.Field {
	var fields []stored.Field
	for range g.IntN(5) {
		fields = append(fields, stored.Field{Name: g.word(), Value: g.word()})
	}
	return fields
}

func (g generator) words() []string {
	var words []string
	for range g.IntN(5) {
		words = append(words, g.word())
	}
	return words
}

// word returns bytes of any kind, often few, sometimes more than one byte of length can say.
func (g generator) word() string {
	b := make([]byte, g.IntN(8)*g.IntN(8)*g.IntN(8))
	for i := range b {
		b[i] = byte(g.Uint32())
	}
	return string(b)
}

func BenchmarkDecode(b *testing.B) {
	for name, size := range map[string]int{"1KiB": 1 << 10, "16KiB": 16 << 10} {
		b.Run(name, func(b *testing.B) {
			value := stored.AppendEncode(nil, ordinary(size))
			b.SetBytes(int64(len(value)))
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := stored.Decode(value); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAppendEncode(b *testing.B) {
	r := ordinary(16 << 10)
	b.ReportAllocs()
	for b.Loop() {
		stored.AppendEncode(nil, r)
	}
}

// ordinary returns a response as origins send them, with a body of the given length.
func ordinary(size int) *stored.Response {
	r := page()
	for name, value := range map[string]string{
		"Cache-Control": "public, max-age=300", "Etag": `"33a64df551425fcc55e4d42a148795d9f25f89d4"`,
		"Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT", "Vary": "Accept-Encoding", "Content-Encoding": "gzip",
		"Strict-Transport-Security": "max-age=63072000", "Date": "Thu, 01 Jan 2026 00:00:00 GMT",
	} {
		r.Header += stored.HeaderOf(stored.Field{Name: http.CanonicalHeaderKey(name), Value: value})
	}
	r.Body = []byte(strings.Repeat("x", size))
	r.BodySize = int64(size)
	return r
}
