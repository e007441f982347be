package queue

import (
	"crypto/sha256"
	"encoding/base64"
	"strconv"
	"strings"
)

// keys makes the names of all keys of one partition; doc.go says what lies in
// each. All begin with the partition's tag, which is the value of keys: a hash
// tag of Redis Cluster in braces.
//
// No two of them are ever the same name: what follows the tag is a single
// letter, or a lane, which has a slash.
type keys string

// newKeys returns the names for one partition of a queue.
func newKeys(namespace, queue string, partition int) keys {
	return keys("{" + namespace + ":q:" + queue + ":" + strconv.Itoa(partition) + "}")
}

func (k keys) stream(name string) string {
	if name == "" {
		return string(k) + ":s"
	}
	return string(k) + ":" + name + ":s"
}

func (k keys) delayed() string     { return string(k) + ":d" }
func (k keys) dead() string        { return string(k) + ":x" }
func (k keys) orders() string      { return string(k) + ":o" }
func (k keys) seconds() string     { return string(k) + ":y" }
func (k keys) counters() string    { return string(k) + ":c" }
func (k keys) paused() string      { return string(k) + ":p" }
func (k keys) bucket() string      { return string(k) + ":g" }
func (k keys) lanes() string       { return string(k) + ":l" }
func (k keys) incarnation() string { return string(k) + ":i" }

func (k keys) record(rid string) string    { return string(k) + ":m:" + rid }
func (k keys) order(hash string) string    { return string(k) + ":o:" + hash }
func (k keys) second(rid string) string    { return string(k) + ":y:" + rid }
func (k keys) tombstone(rid string) string { return string(k) + ":n:" + rid }

// dedup returns the key for a dedup key, which may be anything.
func (k keys) dedup(key string) string { return string(k) + ":k:" + digest("", key) }

func (k keys) chunk(rid string, n int) string {
	return string(k) + ":b:" + rid + ":" + strconv.Itoa(n)
}

// chunks returns the keys of all chunks of a body of size bytes that does not
// lie in its frame.
func (k keys) chunks(rid string, size int64) []string {
	out := make([]string, (size+chunkSize-1)/chunkSize)
	for i := range out {
		out[i] = k.chunk(rid, i)
	}
	return out
}

// lane returns the name of the stream for a destination and a class: it has a
// slash, unless it is the plain one, which is empty.
func lane(destination, class string) string {
	if destination == "" && class == "" {
		return ""
	}
	return destination + "/" + class
}

// splitLane is lane's inverse.
func splitLane(name string) (destination, class string) {
	destination, class, _ = strings.Cut(name, "/")
	return destination, class
}

// recordID returns the name of one delivery of a message.
func recordID(id, destination string) string {
	if destination == "" {
		return id
	}
	return id + "~" + destination
}

// splitRecordID is recordID's inverse where the queue has destinations; where
// it has but the plain one, a record id is the message's.
func splitRecordID(rid string) (id, destination string) {
	if i := strings.LastIndexByte(rid, '~'); i >= 0 {
		return rid[:i], rid[i+1:]
	}
	return rid, ""
}

// orderHash returns the name of an order key: what is kept in order for one destination says
// nothing about another.
func orderHash(destination, key string) string {
	if key == "" {
		return ""
	}
	return digest(destination, key)
}

// digest returns 22 letters that nobody can find twice, for keys that clients choose.
func digest(space, s string) string { return digestBytes([]byte(space + "\x00" + s)) }

func digestBytes(b []byte) string {
	sum := sha256.Sum256(b)
	return encodeDigest(sum[:])
}

// encodeDigest writes the first 128 bits of a sum.
func encodeDigest(sum []byte) string { return base64.RawURLEncoding.EncodeToString(sum[:16]) }
