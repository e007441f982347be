package stored_test

import (
	"bytes"
	"errors"
	"runtime"
	"strings"
	"testing"

	"github.com/caddy-fluster/caddy-fluster/stored"
	"github.com/google/go-cmp/cmp"
)

func TestEveryDamageIsNoticed(t *testing.T) {
	for name, v := range golden {
		b := encode(v)
		for n := range len(b) {
			if got, err := decode(t, b[:n:n]); err == nil {
				t.Errorf("%s cut to %d of %d bytes: got %v, want an error", name, n, len(b), got)
			}
		}
		for i := range b {
			for bit := range 8 {
				damaged := append([]byte(nil), b...)
				damaged[i] ^= 1 << bit
				want := stored.ErrFormat
				if i == 3 {
					want = stored.ErrVersion
				}
				if _, err := decode(t, damaged); !errors.Is(err, want) {
					t.Errorf("%s with bit %d of byte %d flipped: got error %v, want %v", name, bit, i, err, want)
				}
			}
		}
		if _, err := decode(t, append(b, 0)); !errors.Is(err, stored.ErrFormat) {
			t.Errorf("%s with a byte after it: got error %v, want ErrFormat", name, err)
		}
	}
}

// The checksum is no secret: what is damaged with intent has the right one.
func TestDecodeAcceptsOnlyWhatEncodes(t *testing.T) {
	for name, v := range golden {
		b := encode(v)
		for n := range len(b) {
			if got, err := decode(t, seal(append([]byte(nil), b[:n]...))); err == nil {
				t.Errorf("%s cut to %d of %d bytes and sealed: got %v, want an error", name, n, len(b), got)
			}
		}
		for i := 12; i < len(b); i++ {
			for x := range 256 {
				changed := append([]byte(nil), b...)
				changed[i] = byte(x)
				checkIdentity(t, seal(changed))
			}
		}
		if _, err := decode(t, seal(append(b, 0))); name != "empty" && err == nil {
			t.Errorf("%s with a byte after it, sealed: got no error, want one", name)
		}
	}
}

// checkIdentity checks that encoding what b decodes to, if it does, gives b.
func checkIdentity(t *testing.T, b []byte) {
	t.Helper()
	v, err := decode(t, b)
	if err != nil {
		return
	}
	if got := encode(v); !bytes.Equal(got, b) {
		t.Fatalf("encoding %#v: got %q, want what it was decoded from, %q", v, got, b)
	}
}

func TestDecodeRefuses(t *testing.T) {
	with := func(change func(r *stored.Response)) []byte {
		r := page()
		change(r)
		return stored.AppendEncode(nil, r)
	}
	chunksWith := func(change func(r *stored.Response)) []byte {
		r := chunked()
		change(r)
		return stored.AppendEncode(nil, r)
	}
	tooLong := int64(1) << 31 // does not fit int everywhere
	// after is the start of a sealed value: its preamble, a fixed part of the given length, and what follows.
	after := func(kind byte, fixed int, rest string) []byte {
		b := append([]byte("flu\x01\x00\x00\x00\x00\x00\x00\x00\x00"), kind)
		b = append(b, make([]byte, fixed)...)
		if fixed > 0 {
			b[14] = 200
		}
		return seal(append(b, rest...))
	}
	for _, tt := range []struct {
		name string
		b    []byte
		want error
	}{
		{"nothing", nil, stored.ErrFormat},
		{"another's value", []byte("hello, this is some other software's value"), stored.ErrFormat},
		{"another version, with a layout of its own", []byte("flu\x02"), stored.ErrVersion},
		{"another kind", after('x', 0, ""), stored.ErrFormat},
		{"status 0", with(func(r *stored.Response) { r.Status = 0 }), stored.ErrFormat},
		{"status 199", with(func(r *stored.Response) { r.Status = 199 }), stored.ErrFormat},
		{"status 1000", with(func(r *stored.Response) { r.Status = 1000 }), stored.ErrFormat},
		{"status that is 200 in 16 bits", with(func(r *stored.Response) { r.Status = 1<<16 + 200 }), stored.ErrFormat},
		{"more fields than any response", with(func(r *stored.Response) { r.Header = stored.HeaderOf(make([]stored.Field, 1<<16+1)...) }), stored.ErrFormat},
		{"more fields in two lists", with(func(r *stored.Response) {
			r.Header, r.Nominated = stored.HeaderOf(make([]stored.Field, 1<<15+1)...), make([]stored.Field, 1<<15)
		}), stored.ErrFormat},
		{"more tags than any response", with(func(r *stored.Response) { r.Tags = make([]string, 1<<16+1) }), stored.ErrFormat},
		{"negative size of a body in chunks", chunksWith(func(r *stored.Response) { r.BodySize = -1 }), stored.ErrFormat},
		{"no body in chunks", chunksWith(func(r *stored.Response) {
			r.BodySize, r.Chunks = 0, &stored.Chunks{Size: 1}
		}), stored.ErrFormat},
		{"a chunk over 31 bits", chunksWith(func(r *stored.Response) {
			r.Chunks.Size, r.Chunks.Count, r.Chunks.Sums = int(tooLong), 1, r.Chunks.Sums[:1]
		}), stored.ErrFormat},
		{"chunks of no length", chunksWith(func(r *stored.Response) { r.Chunks.Size = 0 }), stored.ErrFormat},
		{"chunks of negative length", chunksWith(func(r *stored.Response) { r.Chunks.Size = -1 }), stored.ErrFormat},
		{"a chunk too few for the body", chunksWith(func(r *stored.Response) { r.BodySize = 3<<18 + 1 }), stored.ErrFormat},
		{"a chunk too many for the body", chunksWith(func(r *stored.Response) { r.BodySize = 2 << 18 }), stored.ErrFormat},
		{"a sum too few", chunksWith(func(r *stored.Response) { r.Chunks.Sums = r.Chunks.Sums[:2] }), stored.ErrFormat},
		{"a sum too many", chunksWith(func(r *stored.Response) { r.Chunks.Sums = append(r.Chunks.Sums, 4) }), stored.ErrFormat},
		{"a number in more bytes than it needs", after('r', 77, "\x80\x00\x00\x00\x00\x00\x00"), stored.ErrFormat},
		{"a number over 64 bits", after('r', 77, strings.Repeat("\xff", 10)+"\x01"), stored.ErrFormat},
		{"a string longer than the value", after('r', 77, "\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff\x7f"), stored.ErrFormat},
		{"33 variants", after('v', 0, "\x00\x21\x00"+strings.Repeat("\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", 33)), stored.ErrFormat},
		{"fewer fields in the variants than counted", after('v', 0, "\x00\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), stored.ErrFormat},
		{"more fields in the variants than counted", after('v', 0, "\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00"), stored.ErrFormat},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got, err := decode(t, tt.b); !errors.Is(err, tt.want) {
				t.Errorf("got %v, %v, want error %v", got, err, tt.want)
			}
		})
	}
	// The rows made by hand are refused for what they say and nothing else.
	for name, b := range map[string][]byte{
		"response": after('r', 77, "\x00\x00\x00\x00\x00\x00"),
		"variants": after('v', 0, "\x00\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00"),
	} {
		if _, err := decode(t, b); err != nil {
			t.Errorf("%s made by hand: got error %v, want none", name, err)
		}
	}
}

// A few bytes that claim a lot do not make Decode allocate a lot.
func TestDecodeAllocatesByWhatIsThere(t *testing.T) {
	fixed := make([]byte, 90)
	copy(fixed, "flu\x01")
	fixed[12], fixed[14] = 'r', 200
	claim := func(counts string) []byte {
		return seal(append(append([]byte(nil), fixed...), counts+strings.Repeat("\x00", 100)...))
	}
	sums := chunked()
	sums.BodySize, sums.Chunks = 1<<20, &stored.Chunks{Size: 1, Count: 1 << 20}
	for name, b := range map[string][]byte{
		"65535 fields":           claim("\xff\xff\x03\x00\x00\x00"),
		"65535 nominated fields": claim("\x00\xff\xff\x03\x00\x00"),
		"65535 tags":             claim("\x00\x00\xff\xff\x03\x00"),
		"65535 groups":           claim("\x00\x00\x00\xff\xff\x03"),
		"a million chunks":       stored.AppendEncode(nil, sums),
		"a variant of 65535 nominated fields": seal([]byte("flu\x01\x00\x00\x00\x00\x00\x00\x00\x00v\x00\x01\xff\xff\x03" +
			strings.Repeat("\x00", 100))),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, err := decode(t, b); err == nil {
			t.Errorf("%s: got no error, want one", name)
		}
		runtime.ReadMemStats(&after)
		if got, most := after.TotalAlloc-before.TotalAlloc, uint64(64<<10); got > most {
			t.Errorf("%s in %d bytes: allocated %d bytes, want at most %d", name, len(b), got, most)
		}
	}
}

// Lists that lie in one slice do not grow into each other.
func TestListsAreSeparate(t *testing.T) {
	r, _, err := stored.Decode(encode(page()))
	if err != nil {
		t.Fatal(err)
	}
	_ = append(r.Tags, "another")
	if diff := cmp.Diff(page(), r); diff != "" {
		t.Errorf("after appending to its lists (-want +got):\n%s", diff)
	}
}

// What is read of a header is what was written to it, also where lengths take several bytes, and of a torn one no more
// than there is.
func TestHeader(t *testing.T) {
	want := []stored.Field{{Name: "Etag", Value: `"a"`}, {Name: "", Value: ""}, {Name: "Link", Value: strings.Repeat("l", 20_000)}}
	h := stored.HeaderOf(want...)
	var got []stored.Field
	for name, value := range h.All() {
		got = append(got, stored.Field{Name: name, Value: value})
	}
	if diff := cmp.Diff(want, got); diff != "" || h.Len() != len(want) {
		t.Errorf("got %d lines, want %d (-want +got):\n%s", h.Len(), len(want), diff)
	}
	for range h.All() {
		break // which must not go on
	}
	for n := range len(h) {
		if got := h[:n].Len(); got > len(want) {
			t.Fatalf("torn at %d: got %d lines, want at most %d", n, got, len(want))
		}
	}
	for _, h := range []stored.Header{"\x80", "\x05abc", stored.Header(strings.Repeat("\xff", 20)), "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01a"} {
		for name, value := range h.All() {
			if name+value != "" {
				t.Errorf("%q: got %q and %q, want nothing", h, name, value)
			}
		}
	}
}
