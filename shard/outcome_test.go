package shard

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// replyError is an error as a server sends it.
type replyError string

func (e replyError) Error() string { return string(e) }
func (e replyError) RedisError()   {}

// lateContext is past its deadline, but does not know yet.
type lateContext struct{ context.Context }

func (lateContext) Deadline() (time.Time, bool) { return time.Now().Add(-time.Millisecond), true }

func TestClassify(t *testing.T) {
	live := context.Background()
	canceled, cancel := context.WithCancel(live)
	cancel()
	expired, cancel := context.WithDeadline(live, time.Now().Add(-time.Second))
	defer cancel()
	dial := func(err error) error { return &net.OpError{Op: "dial", Net: "tcp", Err: err} }
	read := func(err error) error { return &net.OpError{Op: "read", Net: "tcp", Err: err} }

	for _, tt := range []struct {
		name string
		ctx  context.Context
		err  error
		want Outcome
	}{
		{"answered", live, nil, OK},
		{"answered after the caller left", canceled, nil, OK},
		{"no such key", live, redis.Nil, OK},
		{"watched key changed", live, redis.TxFailedErr, OK},

		{"connection refused", live, dial(os.NewSyscallError("connect", syscall.ECONNREFUSED)), Refused},
		{"connection refused, and the caller left", canceled, dial(syscall.ECONNREFUSED), Refused},
		{"no route", live, dial(syscall.EHOSTUNREACH), Refused},
		{"no such host", live, dial(&net.DNSError{Err: "no such host", IsNotFound: true}), Refused},
		{"no such socket", live, dial(syscall.ENOENT), Refused},
		{"reset", live, read(syscall.ECONNRESET), Refused},
		{"broken pipe", live, &net.OpError{Op: "write", Err: syscall.EPIPE}, Refused},
		{"ended", live, io.EOF, Refused},
		{"cut off", live, io.ErrUnexpectedEOF, Refused},
		{"rubbish", live, errors.New(`redis: can't parse "HTTP/1.1 400 Bad Request"`), Refused},
		{"unknown authority", live, x509.UnknownAuthorityError{}, Refused},

		{"no password", live, replyError("NOAUTH Authentication required."), Refused},
		{"wrong password", live, replyError("WRONGPASS invalid username-password pair"), Refused},
		{"wrong password, Redis 5", live, replyError("ERR invalid password"), Refused},
		{"no such database", live, replyError("ERR DB index is out of range"), Refused},
		{"password where none is set", live, replyError("ERR AUTH <password> called without any password configured for the default user."), Refused},
		{"not permitted", live, replyError("NOPERM this user has no permissions to run the 'get' command"), Refused},
		{"not permitted within a script", live, replyError("ERR The user executing the script can't run this command or subcommand script: 1, on @user_script:1."), Refused},
		{"protected mode", live, replyError("DENIED Redis is running in protected mode"), Refused},
		{"read only", live, replyError("READONLY You can't write against a read only replica."), Refused},
		{"read only, wrapped", live, fmt.Errorf("storing: %w", replyError("READONLY You can't write against a read only replica.")), Refused},
		{"loading", live, replyError("LOADING Redis is loading the dataset in memory"), Refused},
		{"busy with a script", live, replyError("BUSY Redis is busy running a script."), Refused},
		{"master down", live, replyError("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'."), Refused},
		{"full", live, replyError("OOM command not allowed when used memory > 'maxmemory'."), Refused},
		{"cannot save", live, replyError("MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk."), Refused},
		{"too few replicas", live, replyError("NOREPLICAS Not enough good replicas to write."), Refused},
		{"cluster down", live, replyError("CLUSTERDOWN Hash slot not served"), Refused},
		{"too many clients", live, replyError("ERR max number of clients reached"), Refused},

		{"our deadline", live, context.DeadlineExceeded, Slow},
		{"our deadline, wrapped", live, fmt.Errorf("reading: %w", context.DeadlineExceeded), Slow},
		{"read time-out", live, read(os.ErrDeadlineExceeded), Slow},
		{"dial time-out", live, dial(os.ErrDeadlineExceeded), Slow},
		{"host gone", live, read(syscall.ETIMEDOUT), Slow},
		{"name server silent", live, dial(&net.DNSError{Err: "timeout", IsTimeout: true}), Slow},
		{"moved in vain", live, replyError("MOVED 3999 127.0.0.1:6381"), Slow},
		{"asked in vain", live, replyError("ASK 3999 127.0.0.1:6381"), Slow},

		{"caller left", canceled, context.Canceled, Nobody},
		{"caller left while dialing", canceled, dial(context.Canceled), Nobody},
		{"caller left, and a time-out", canceled, read(os.ErrDeadlineExceeded), Nobody},
		{"caller's deadline", expired, context.DeadlineExceeded, Nobody},
		{"caller's deadline, by the connection", expired, read(os.ErrDeadlineExceeded), Nobody},
		{"caller's deadline, by the connection and at once", lateContext{live}, read(os.ErrDeadlineExceeded), Nobody},
		{"no connection free in time", live, redis.ErrPoolTimeout, Nobody},
		{"no connection free", live, redis.ErrPoolExhausted, Nobody},
		{"queue full", live, errQueueFull, Nobody},
		{"closed by us", live, redis.ErrClosed, Nobody},
		{"connection closed by us", live, read(net.ErrClosed), Nobody},
		{"an argument that is none", live, errors.New("redis: can't marshal chan int (implement encoding.BinaryMarshaler)"), Nobody},
		{"wrong type", live, replyError("WRONGTYPE Operation against a key holding the wrong kind of value"), Nobody},
		{"no such script", live, redis.ErrNoScript, Nobody},
		{"script failed", live, replyError("ERR user_script:1: oops"), Nobody},
		{"several slots", live, redis.ErrCrossSlot, Nobody},
		{"slot on its way", live, replyError("TRYAGAIN Multiple keys request during rehashing of slot"), Nobody},
		{"a script's word that begins like a code", live, replyError("OOMPH"), Nobody},
	} {
		if got := Classify(tt.ctx, tt.err); got != tt.want {
			t.Errorf("%s: Classify(%v) = %v, want %v", tt.name, tt.err, got, tt.want)
		}
	}
}

func TestBlockingCommandsAreKnown(t *testing.T) {
	ctx := context.Background()
	for _, tt := range []struct {
		args []any
		want bool
	}{
		{[]any{"GET", "block"}, false},
		{[]any{"BLPOP", "k", 0}, true},
		{[]any{"XREAD", "COUNT", 1, "BLOCK", 0, "STREAMS", "s", "$"}, true},
		{[]any{"xreadgroup", "group", "g", "c", "block", 100, "streams", "s", ">"}, true},
		{[]any{"xread", "streams", "block", "0"}, false},
	} {
		if got := isBlocking(redis.NewCmd(ctx, tt.args...)); got != tt.want {
			t.Errorf("isBlocking(%v) = %v, want %v", tt.args, got, tt.want)
		}
	}
}
