// Package stored is the stored response (RFC 9111, Section 3) and the binary format in which it lies on a node.
//
// It is the value of one Redis key and nothing more: which key that is, whether the response may still be used, and what
// lies in the chunks of a long body is the caller's business. What Decode reads is untrusted; it says whether the bytes
// are a whole value of this format. The checksum finds accidents, not attackers, and a cache key on a node is a hash:
// the caller compares the whole Key.
//
//	response.go  the types
//	header.go    the header, which stays as the format has it
//	encode.go    the format, and writing it
//	decode.go    reading it
//	alias.go     strings that share memory with what was read
package stored

import (
	"unsafe"

	"github.com/caddy-fluster/caddy-fluster/httpcache"
)

// A Response is a stored response. A decoded one shares memory with the bytes that it was decoded from and is read only.
type Response struct {
	Key       string   // the whole cache key, compared on reading
	URL       string   // as the client asked for it, scheme://host/path?query: what selectors select
	Status    int      // a final status code, 200 to 999
	Header    Header   // the end-to-end fields, less the tags
	Tags      []string // what tag selectors select
	Groups    []string // its cache groups (RFC 9875)
	Nominated []Field  // what the request had in the fields that Vary names: lower-case names, normalized values
	Terms     httpcache.Terms
	Stamp     Stamp
	Body      []byte  // nil when the body is in chunks
	BodySize  int64   // length of the whole body, in bytes
	Chunks    *Chunks // nil when the body is in Body
}

// A Field is one header field line.
type Field struct {
	Name  string // canonical, as http.CanonicalHeaderKey has it, but for Nominated
	Value string
}

// A Stamp says what the journal of the response's node had when its fill began (INVALIDATION.md).
type Stamp struct {
	Inc, Seq, Nonce uint64
}

// Chunks says where a body lies that is too long for one value: in Count values of Size bytes, of which the last may be
// shorter, each under a key made of Token and its number. These are claims of whoever wrote the value: a reader checks
// each chunk against its sum and allocates by what arrives, not by what is claimed here.
type Chunks struct {
	Token uint64   // drawn at random for each fill, so that chunks of two fills never mix
	Size  int      // length of each chunk but the last, in bytes; at least 1
	Count int      // at least 1
	Sums  []uint64 // xxhash64 of each chunk
}

// MaxVariants is how many variants of a URL are remembered.
const MaxVariants = 32

// Variants is what lies at a URL's own key when its responses vary: under which keys they lie, by what the request had
// in the nominated fields (RFC 9111, Section 4.1). A decoded one shares memory with the bytes that it was decoded from.
type Variants struct {
	Key  string    // the whole cache key of the URL, compared on reading
	List []Variant // most recently used first, at most MaxVariants
}

// A Variant says where the response to requests with certain values in the nominated fields lies.
type Variant struct {
	Nominated []Field // lower-case names, normalized values
	Key       string  // the variant's whole cache key
	Language  string  // its Content-Language; empty if it has none
	Stored    int64   // when it was stored, Unix milliseconds
}

// Size returns about how many bytes of memory r holds: the bound of the near cache counts them.
func (r *Response) Size() int {
	size := int(unsafe.Sizeof(*r)) + cap(r.Body) + r.textLen()
	size += len(r.Nominated) * int(unsafe.Sizeof(Field{}))
	size += (len(r.Tags) + len(r.Groups)) * int(unsafe.Sizeof(""))
	if r.Chunks != nil {
		size += int(unsafe.Sizeof(*r.Chunks)) + 8*len(r.Chunks.Sums)
	}
	return size
}

// textLen returns the length of all strings of r together.
func (r *Response) textLen() int {
	n := len(r.Key) + len(r.URL) + len(r.Header) + fieldsLen(r.Nominated)
	for _, s := range r.Tags {
		n += len(s)
	}
	for _, s := range r.Groups {
		n += len(s)
	}
	return n
}

// fieldsLen returns the length of all names and values together.
func fieldsLen(fields []Field) int {
	n := 0
	for _, f := range fields {
		n += len(f.Name) + len(f.Value)
	}
	return n
}
