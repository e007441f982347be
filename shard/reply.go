package shard

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

// A Value is what was read of one key. It is read only, and others may have it too.
type Value struct {
	Bytes []byte // nil if there is none
	Loan  *Loan  // of its memory; nil if that is not used again
}

// Own returns the bytes in memory that is the caller's, and gives back what was lent.
func (v Value) Own() []byte {
	if v.Loan == nil {
		return v.Bytes
	}
	own := append([]byte(nil), v.Bytes...)
	v.Loan.Return()
	return own
}

// A Loan is memory that is used again for values of about one size: those of pages. To
// allocate and collect it for each is a third of what reading them costs this process.
type Loan struct {
	readers atomic.Int32 // who have not given it back
	room    [maxLent + 2]byte
}

const (
	// minLent is the length from which on values are read into memory that is lent.
	minLent = 512
	// maxLent is that of the longest ones: slow clients may hold thousands.
	maxLent = 8 << 10
)

var loans = sync.Pool{New: func() any { return new(Loan) }}

// Return gives the memory of a value back, for other values, once all who have that
// value have done so. Whoever does it must not look at the bytes any more, nor do it
// again. Nobody has to: what is not given back is the garbage collector's.
func (l *Loan) Return() {
	if l != nil && l.readers.Add(-1) == 0 {
		loans.Put(l)
	}
}

// values is the reply to an MGET, as go-redis hands it on raw: each line and each end
// of one by Write, and what is in a string by ReadFrom. It has one value for each key.
type values struct {
	readers []int32 // how many read each key
	got     []Value
	begun   bool
	failure error // of the reply itself; the connection is in order
}

// Write takes a line, or the end of one.
func (v *values) Write(p []byte) (int, error) {
	switch {
	case string(p) == "\r\n" || len(p) == 0 || v.failure != nil:
	case !v.begun:
		v.begin(p)
	case string(p) == "$-1", string(p) == "_":
		v.add(Value{})
	case p[0] != '$': // else ReadFrom is next
		v.failure = fmt.Errorf("shard: %.20q in reply to an MGET", p)
	}
	return len(p), nil
}

// begin takes the first line, which is that of an array.
func (v *values) begin(line []byte) {
	v.begun = true
	switch n, err := strconv.Atoi(string(line[1:])); {
	case line[0] == '-':
		v.failure = serverError(line[1:])
	case line[0] != '*' || err != nil || n != len(v.readers):
		v.failure = fmt.Errorf("shard: %.20q in reply to an MGET of %d keys", line, len(v.readers))
	default:
		v.got = make([]Value, 0, n)
	}
}

func (v *values) add(x Value) {
	if v.failure == nil && len(v.got) < len(v.readers) {
		v.got = append(v.got, x)
	}
}

// ReadFrom takes a string, and the end of its line.
func (v *values) ReadFrom(r io.Reader) (int64, error) {
	l, ok := r.(*io.LimitedReader)
	if !ok || l.N < 2 {
		return 0, errors.New("shard: a string of no known length")
	}
	var x Value
	n := int(l.N)
	if i := len(v.got); minLent <= n-2 && n-2 <= maxLent && i < len(v.readers) {
		x.Loan = loans.Get().(*Loan)
		x.Loan.readers.Store(v.readers[i])
		x.Bytes = x.Loan.room[:n]
	} else {
		x.Bytes = make([]byte, n)
	}
	m, err := io.ReadFull(r, x.Bytes)
	x.Bytes = x.Bytes[:max(m-2, 0):max(m-2, 0)]
	v.add(x)
	return int64(m), err
}

// serverError is an error that the server sent.
type serverError string

func (e serverError) Error() string { return string(e) }

// RedisError marks it as go-redis marks its own.
func (serverError) RedisError() {}

var _ redis.Error = serverError("")

// readValues reads the values of keys, each of which so many read, by one MGET. args
// are "mget" and the keys.
func readValues(ctx context.Context, client redis.UniversalClient, args []any, readers []int32) ([]Value, error) {
	v := &values{readers: readers}
	err := client.Process(ctx, redis.NewRawWriteToCmd(ctx, v, args...))
	switch {
	case err != nil:
		return nil, err
	case v.failure != nil:
		return nil, v.failure
	case len(v.got) != len(readers):
		return nil, fmt.Errorf("shard: %d values for %d keys", len(v.got), len(readers))
	}
	return v.got, nil
}
