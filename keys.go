package fluster

import (
	"encoding/hex"
	"strconv"

	"github.com/cespare/xxhash/v2"
)

// bucket is the prefix of all keys that lie together on one node, and its hash
// tag, so that they would share a slot on a Redis Cluster.
type bucket string

// newBucket returns bucket number n of a namespace; an independent node has
// bucket 0 alone.
func newBucket(namespace string, n int) bucket {
	return bucket("{" + namespace + ":" + strconv.Itoa(n) + "}")
}

// journalChannel and forwardsChannel are where Caddys tell each other of records, and
// of forwards that have ended.
func journalChannel(namespace string) string  { return namespace + ":journal" }
func forwardsChannel(namespace string) string { return namespace + ":forwards" }

// head is the key of the journal's head, "inc:seq:nonce".
func (b bucket) head() string { return string(b) + ":h" }

// journal is the key of the stream of records.
func (b bucket) journal() string { return string(b) + ":j" }

// record is the key that says that a record is here already.
func (b bucket) record(id string) string { return string(b) + ":d:" + id }

// probe is the key that a node is tried with.
func (b bucket) probe() string { return string(b) + ":p" }

// entry is the key of what is stored under a cache key: a response, or the
// list of a URL's variants.
func (b bucket) entry(key string) string {
	var buf [128]byte // the usual namespace fits, and all is one allocation
	return string(appendHash128(append(append(buf[:0], b...), ":e:"...), key))
}

// chunk is the key of the i-th part of a long body.
func (b bucket) chunk(token uint64, i int) string {
	return string(b) + ":c:" + strconv.FormatUint(token, 16) + ":" + strconv.Itoa(i)
}

// lock is the key of the lock on the forward for a cache key.
func (b bucket) lock(key string) string {
	return string(appendHash128([]byte(b+":l:"), key))
}

// appendHash128 appends 128 bits of hash in hexadecimal. Chosen collisions are
// possible; the whole cache key is in the value and compared.
func appendHash128(dst []byte, key string) []byte {
	var sum [16]byte
	var d xxhash.Digest
	for i := range 2 {
		d.ResetWithSeed(uint64(i))
		d.WriteString(key)
		d.Sum(sum[i*8 : i*8])
	}
	return hex.AppendEncode(dst, sum[:])
}
