package stored

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"

	"github.com/caddy-fluster/caddy-fluster/httpcache"
	"github.com/cespare/xxhash/v2"
)

var (
	// ErrFormat says that the bytes are no whole value of this format: torn, foreign, or with a wrong checksum. They are
	// of no use to anybody and may be deleted.
	ErrFormat = errors.New("stored: not a stored response")
	// ErrVersion says that another version of this software wrote the value. It is a miss, and not to be deleted: that
	// version may run beside this one.
	ErrVersion = errors.New("stored: written by another version")
)

// Decode reads a value; exactly one of its results is not nil. The strings and the body of a response, and the strings of
// variants, share memory with b, which nobody may change any more. b is not trusted: every length in it is checked before
// it is used, and what is allocated is bounded by the length of b. Decode accepts only what an encoder writes: encoding
// the result again gives b.
func Decode(b []byte) (*Response, *Variants, error) { return decode(b, false) }

// DecodeApart is Decode but for the strings of a response whose body lies in it: they have memory of their own. The body
// alone shares memory with b.
func DecodeApart(b []byte) (*Response, *Variants, error) { return decode(b, true) }

func decode(b []byte, apart bool) (*Response, *Variants, error) {
	if len(b) <= versionAt || string(b[:versionAt]) != magic {
		return nil, nil, ErrFormat
	}
	if b[versionAt] != version {
		return nil, nil, ErrVersion
	}
	if len(b) < minLen || binary.LittleEndian.Uint64(b[checksumAt:]) != xxhash.Sum64(b[kindAt:]) {
		return nil, nil, ErrFormat
	}

	d := decoder{rest: b[minLen:]}
	switch b[kindAt] {
	case kindResponse:
		if apart {
			d.takeBody()
		}
		if r := d.response(); !d.bad {
			return r, nil, nil
		}
	case kindVariants:
		if v := d.variants(); !d.bad {
			return nil, v, nil
		}
	}
	return nil, nil, ErrFormat
}

// A decoder reads a value from front to back. The first thing that cannot be makes it bad: from then on it reads zeros
// and empty strings, so that only the end need ask.
type decoder struct {
	rest []byte // not read yet
	body []byte // of a response, if it is not in rest
	bad  bool
}

// takeBody takes the body of a response out of the rest, of which it makes a copy. If the body is not where the response
// says, response will see.
func (d *decoder) takeBody() {
	const formAt, sizeAt = 0, fixedLen - minLen - 8
	if len(d.rest) < fixedLen-minLen || d.rest[formAt] != formWhole {
		return
	}
	if size := binary.LittleEndian.Uint64(d.rest[sizeAt:]); size <= uint64(len(d.rest)-(fixedLen-minLen)) {
		head := len(d.rest) - int(size)
		d.rest, d.body = bytes.Clone(d.rest[:head]), d.rest[head:]
	}
}

// response reads what follows the kind of a response.
func (d *decoder) response() *Response {
	if len(d.rest) < fixedLen-minLen {
		d.fail()
		return nil
	}
	r := new(Response)
	form := d.fixed(r)

	header, nominated := d.count(2), d.count(2)
	tags, groups := d.count(1), d.count(1)
	r.Key, r.URL = d.string(), d.string()
	// Only now, because a value that is torn before its fields should not make us allocate.
	if d.bad || !d.holds(header+nominated, 2) || !d.holds(tags+groups, 1) {
		d.fail()
		return nil
	}
	r.Header = d.header(header)
	r.Nominated = makeSlice[Field](nominated)
	d.fields(r.Nominated)
	words := makeSlice[string](tags + groups)
	d.strings(words)
	r.Tags, r.Groups = split(words, tags)

	if form == formChunks {
		r.Chunks = d.chunks(r.BodySize)
		d.end()
		return r
	}
	if d.body == nil {
		d.body, d.rest = d.rest, nil
	}
	if d.end(); int64(len(d.body)) != r.BodySize {
		d.fail()
	}
	r.Body = d.body[:len(d.body):len(d.body)]
	return r
}

// fixed reads what has a fixed width in a response and returns the form of its body. The caller has checked that it is
// all there.
func (d *decoder) fixed(r *Response) (form byte) {
	form, d.rest = d.rest[0], d.rest[1:]
	r.Status = int(d.uint16())
	r.Terms = httpcache.Terms{
		Flags:                httpcache.Flags(d.uint16()),
		Received:             int64(d.uint64()),
		Born:                 int64(d.uint64()),
		FreshUntil:           int64(d.uint64()),
		StaleWhileRevalidate: int64(d.uint64()),
		StaleIfError:         int64(d.uint64()),
	}
	r.Stamp = Stamp{Inc: d.uint64(), Seq: d.uint64(), Nonce: d.uint64()}
	r.BodySize = int64(d.uint64())

	// net/http panics on a status below 100 or above 999, and one below 200 does not end a response.
	if form > formChunks || r.Status < minFinal || r.Status > maxStatus {
		d.fail()
	}
	return form
}

// chunks reads where the chunks of a body of the given length lie.
func (d *decoder) chunks(bodySize int64) *Chunks {
	token, size, count := d.uint64(), d.uvarint(), d.uvarint()
	// The last chunk has at least one byte, the others are full, and all sums are there before anything is made for them.
	if d.bad || bodySize < 1 || size < 1 || size > math.MaxInt32 || count != (uint64(bodySize)-1)/size+1 ||
		count != uint64(len(d.rest))/8 {
		d.fail()
		return nil
	}
	c := &Chunks{Token: token, Size: int(size), Count: int(count), Sums: make([]uint64, count)}
	for i := range c.Sums {
		c.Sums[i] = d.uint64()
	}
	return c
}

// minVariantLen is the length of the shortest variant: two empty strings, when it was stored, and no fields.
const minVariantLen = 1 + 1 + 8 + 1

// variants reads what follows the kind of a list of variants.
func (d *decoder) variants() *Variants {
	v := &Variants{Key: d.string()}
	list, nominated := d.count(minVariantLen), d.count(2)
	if d.bad || list > MaxVariants {
		d.fail()
		return nil
	}
	v.List = makeSlice[Variant](list)
	fields := makeSlice[Field](nominated)
	for i := range v.List {
		e := &v.List[i]
		e.Key, e.Language = d.string(), d.string()
		e.Stored = int64(d.uint64())
		n := d.count(2)
		if n > len(fields) {
			d.fail()
			return nil
		}
		e.Nominated, fields = split(fields, n)
		d.fields(e.Nominated)
	}
	if len(fields) > 0 {
		d.fail()
	}
	d.end()
	return v
}

// header reads n fields as they are, when it has looked at the length of each name and value.
func (d *decoder) header(n int) Header {
	start := d.rest
	for range 2 * n {
		d.string()
	}
	return Header(aliasString(start[:len(start)-len(d.rest)]))
}

// fields reads the names and values of all of fields.
func (d *decoder) fields(fields []Field) {
	for i := range fields {
		fields[i] = Field{Name: d.string(), Value: d.string()}
	}
}

// strings reads all of words.
func (d *decoder) strings(words []string) {
	for i := range words {
		words[i] = d.string()
	}
}

// fail makes d bad.
func (d *decoder) fail() {
	d.bad, d.rest = true, nil
}

// end makes d bad if there is anything left.
func (d *decoder) end() {
	if len(d.rest) > 0 {
		d.fail()
	}
}

// count reads how many things of at least minLen bytes each follow somewhere. It is never more than can.
func (d *decoder) count(minLen int) int {
	n := d.uvarint()
	if n > maxCount || !d.holds(int(n), minLen) {
		d.fail()
		return 0
	}
	return int(n)
}

// holds reports whether n things of at least minLen bytes each can follow.
func (d *decoder) holds(n, minLen int) bool {
	return n <= maxCount && n*minLen <= len(d.rest)
}

// string reads a string, which shares memory with what is read.
func (d *decoder) string() string {
	n := d.uvarint()
	if n > uint64(len(d.rest)) {
		d.fail()
		return ""
	}
	s := aliasString(d.rest[:n])
	d.rest = d.rest[n:]
	return s
}

// uvarint reads a varint. A number has only one form here, the shortest.
func (d *decoder) uvarint() uint64 {
	if len(d.rest) > 0 && d.rest[0] < 0x80 {
		v := uint64(d.rest[0])
		d.rest = d.rest[1:]
		return v
	}
	v, n := binary.Uvarint(d.rest)
	if n <= 0 || d.rest[n-1] == 0 {
		d.fail()
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

// uint16 reads two bytes.
func (d *decoder) uint16() uint16 {
	if len(d.rest) < 2 {
		d.fail()
		return 0
	}
	v := binary.LittleEndian.Uint16(d.rest)
	d.rest = d.rest[2:]
	return v
}

// uint64 reads eight bytes.
func (d *decoder) uint64() uint64 {
	if len(d.rest) < 8 {
		d.fail()
		return 0
	}
	v := binary.LittleEndian.Uint64(d.rest)
	d.rest = d.rest[8:]
	return v
}

// makeSlice returns n zero values, nil for none.
func makeSlice[T any](n int) []T {
	if n == 0 {
		return nil
	}
	return make([]T, n)
}

// split returns the first n of s and the others, nil for none. Appending to the first does not write into the others.
func split[T any](s []T, n int) (first, others []T) {
	if n > 0 {
		first = s[:n:n]
	}
	if n < len(s) {
		others = s[n:]
	}
	return first, others
}
