package stored

import (
	"encoding/binary"
	"slices"

	"github.com/cespare/xxhash/v2"
)

// A value is, with all fixed-width numbers little endian:
//
//	 0  3  magic "flu"
//	 3  1  version
//	 4  8  xxhash64 of all that follows
//	12  1  kind, kindResponse or kindVariants
//
// These stay as they are in every version. In version 1 a response goes on with
//
//	13  1  form of the body, formWhole or formChunks
//	14  2  status
//	16  2  Terms.Flags
//	18 40  Terms: Received, Born, FreshUntil, StaleWhileRevalidate, StaleIfError
//	58 24  Stamp: Inc, Seq, Nonce
//	82  8  length of the whole body
//	90     counts of Header, Nominated, Tags and Groups; key; URL; the fields of Header and Nominated; Tags; Groups;
//	       then the body, or Chunks: token (8), size, count, sums (8 each)
//
// and a list of variants with
//
//	13     key; count of variants; count of the nominated fields of all of them;
//	       for each: key; language; when stored (8); count of its nominated fields; these
//
// Counts and sizes are unsigned varints of the shortest form. A string is its length, as such a varint, and its bytes: so
// header fields need no scan for their ends, and no byte in them can be taken for one. A field is two strings, name and
// value. Counts come before what they count, so that one slice can be made for all. Nothing may follow.
const (
	magic   = "flu"
	version = 1

	versionAt  = len(magic)
	checksumAt = versionAt + 1
	kindAt     = checksumAt + 8
	minLen     = kindAt + 1

	kindResponse = 'r'
	kindVariants = 'v'
	formWhole    = 0
	formChunks   = 1

	// fixedLen is the length of what comes before the first varint of a response.
	fixedLen = 90
	// maxCount bounds the fields of one value, and its other strings, whatever its length.
	maxCount = 1 << 16
	// minFinal and maxStatus are what net/http lets a handler send as a final status code.
	minFinal, maxStatus = 200, 999
)

// AppendEncode appends r to dst in the current version of the format. Without Chunks, the length of Body is written for
// BodySize. A response that Decode would refuse (a status that is not final, more than 65536 fields or tags, Chunks that do
// not add up to BodySize) still encodes, to a value that Decode refuses: a miss.
func AppendEncode(dst []byte, r *Response) []byte {
	start := len(dst)
	dst = slices.Grow(dst, r.encodedLen())
	dst = appendPreamble(dst, kindResponse)
	dst = appendFixed(dst, r)

	for _, n := range [...]int{r.Header.Len(), len(r.Nominated), len(r.Tags), len(r.Groups)} {
		dst = appendInt(dst, n)
	}
	dst = appendString(dst, r.Key)
	dst = appendString(dst, r.URL)
	dst = append(dst, r.Header...)
	dst = appendFields(dst, r.Nominated)
	for _, s := range r.Tags {
		dst = appendString(dst, s)
	}
	for _, s := range r.Groups {
		dst = appendString(dst, s)
	}
	if r.Chunks == nil {
		dst = append(dst, r.Body...)
	} else {
		dst = appendChunks(dst, r.Chunks)
	}
	return seal(dst, start)
}

// AppendEncodeVariants appends v to dst in the current version of the format. What is beyond MaxVariants in its list is
// left out.
func AppendEncodeVariants(dst []byte, v *Variants) []byte {
	start := len(dst)
	list := v.List[:min(len(v.List), MaxVariants)]
	fields := 0
	for i := range list {
		fields += len(list[i].Nominated)
	}

	dst = appendPreamble(dst, kindVariants)
	dst = appendString(dst, v.Key)
	dst = appendInt(dst, len(list))
	dst = appendInt(dst, fields)
	for i := range list {
		dst = appendString(dst, list[i].Key)
		dst = appendString(dst, list[i].Language)
		dst = binary.LittleEndian.AppendUint64(dst, uint64(list[i].Stored))
		dst = appendInt(dst, len(list[i].Nominated))
		dst = appendFields(dst, list[i].Nominated)
	}
	return seal(dst, start)
}

// encodedLen returns the length of r encoded, or a little more.
func (r *Response) encodedLen() int {
	varints := 6 + 2*len(r.Nominated) + len(r.Tags) + len(r.Groups)
	n := fixedLen + r.textLen() + binary.MaxVarintLen32*varints
	if r.Chunks == nil {
		return n + len(r.Body)
	}
	return n + 8 + 2*binary.MaxVarintLen64 + 8*len(r.Chunks.Sums)
}

// appendPreamble appends what each value begins with; seal fills in the checksum.
func appendPreamble(dst []byte, kind byte) []byte {
	dst = append(dst, magic...)
	dst = append(dst, version)
	dst = append(dst, make([]byte, kindAt-checksumAt)...)
	return append(dst, kind)
}

// seal writes the checksum into the value that begins at start.
func seal(dst []byte, start int) []byte {
	value := dst[start:]
	binary.LittleEndian.PutUint64(value[checksumAt:], xxhash.Sum64(value[kindAt:]))
	return dst
}

// appendFixed appends what has a fixed width in a response.
func appendFixed(dst []byte, r *Response) []byte {
	form, bodySize := byte(formWhole), int64(len(r.Body))
	if r.Chunks != nil {
		form, bodySize = formChunks, r.BodySize
	}
	status := uint16(0) // no status, which Decode refuses: cutting off high bits could make a valid one
	if minFinal <= r.Status && r.Status <= maxStatus {
		status = uint16(r.Status)
	}

	dst = append(dst, form)
	dst = binary.LittleEndian.AppendUint16(dst, status)
	dst = binary.LittleEndian.AppendUint16(dst, uint16(r.Terms.Flags))
	for _, n := range [...]int64{
		r.Terms.Received, r.Terms.Born, r.Terms.FreshUntil, r.Terms.StaleWhileRevalidate, r.Terms.StaleIfError,
	} {
		dst = binary.LittleEndian.AppendUint64(dst, uint64(n))
	}
	for _, n := range [...]uint64{r.Stamp.Inc, r.Stamp.Seq, r.Stamp.Nonce, uint64(bodySize)} {
		dst = binary.LittleEndian.AppendUint64(dst, n)
	}
	return dst
}

// appendChunks appends c.
func appendChunks(dst []byte, c *Chunks) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, c.Token)
	dst = appendInt(dst, c.Size)
	dst = appendInt(dst, c.Count)
	for _, sum := range c.Sums {
		dst = binary.LittleEndian.AppendUint64(dst, sum)
	}
	return dst
}

// appendFields appends the name and the value of each field.
func appendFields(dst []byte, fields []Field) []byte {
	for _, f := range fields {
		dst = appendString(dst, f.Name)
		dst = appendString(dst, f.Value)
	}
	return dst
}

// appendString appends the length of s and s.
func appendString(dst []byte, s string) []byte {
	return append(appendInt(dst, len(s)), s...)
}

// appendInt appends n as a varint. A negative n becomes a number that no reader accepts for a count or a size.
func appendInt(dst []byte, n int) []byte {
	return binary.AppendUvarint(dst, uint64(n))
}
