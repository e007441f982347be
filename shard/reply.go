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
// allocate and collect it for each was a tenth of what a hit on a node costs this process.
type Loan struct {
	readers atomic.Int32 // who have not given it back
	room    [maxLent + 2]byte
}

const (
	// minLent is the length from which on values are read into memory that is lent.
	minLent = 512
	// maxLent is that of the longest ones: slow clients may hold thousands.
	maxLent = 8<<10 - 6 // a Loan has a size of the allocator's
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
//
// An error ends the command as one of go-redis's own, which gives the connection up
// but where a server's error is all of the reply: what comes next may be the answer to
// what was asked before.
type values struct {
	readers []int32 // how many read each key
	got     []Value
	begun   bool
}

// Write takes a line, or the end of one.
func (v *values) Write(p []byte) (int, error) {
	if err := v.take(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (v *values) take(line []byte) error {
	switch {
	case string(line) == "\r\n":
	case !v.begun:
		return v.begin(line)
	case string(line) == "$-1", string(line) == "_", line[0] == '-': // of one key a proxy may have an error
		v.got = append(v.got, Value{})
	case line[0] != '$': // else ReadFrom is next
		return fmt.Errorf("shard: %.20q in reply to an MGET", line)
	}
	return nil
}

// begin takes the first line, which is that of an array.
func (v *values) begin(line []byte) error {
	v.begun = true
	switch n, err := strconv.Atoi(string(line[1:])); {
	case line[0] == '-':
		return serverError(line[1:])
	case line[0] != '*' || err != nil || n != len(v.readers):
		return fmt.Errorf("shard: %.20q in reply to an MGET of %d keys", line, len(v.readers))
	}
	v.got = make([]Value, 0, len(v.readers))
	return nil
}

// ReadFrom takes a string, and the end of its line.
func (v *values) ReadFrom(r io.Reader) (int64, error) {
	l, ok := r.(*io.LimitedReader)
	if !ok || l.N < 2 {
		return 0, errors.New("shard: a string of no known length")
	}
	var x Value
	n := int(l.N)
	if minLent <= n-2 && n-2 <= maxLent {
		x.Loan = loans.Get().(*Loan)
		x.Loan.readers.Store(v.readers[len(v.got)])
		x.Bytes = x.Loan.room[:n]
	} else {
		x.Bytes = make([]byte, n)
	}
	m, err := io.ReadFull(r, x.Bytes)
	x.Bytes = x.Bytes[:max(m-2, 0):max(m-2, 0)]
	v.got = append(v.got, x)
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
	if err := client.Process(ctx, redis.NewRawWriteToCmd(ctx, v, args...)); err != nil {
		return nil, err
	}
	if len(v.got) != len(readers) {
		return nil, fmt.Errorf("shard: %d values for %d keys", len(v.got), len(readers))
	}
	return v.got, nil
}
