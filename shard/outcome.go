package shard

import (
	"context"
	"errors"
	"net"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// An Outcome is what the end of a command says about the node that it went to:
// the greater, the worse for the node.
type Outcome uint8

const (
	// OK: the server answered what it was asked; also that there is nothing.
	OK Outcome = iota
	// Nobody: it says nothing about the node. The caller gave up, this process
	// had no connection free, or the command was wrong.
	Nobody
	// Slow: no answer in time, or being sent elsewhere in vain. It may pass: a
	// node is judged by several of them in a row.
	Slow
	// Refused: the node cannot do its work now. One is enough to judge.
	Refused
)

// String returns ok, nobody, slow or refused.
func (o Outcome) String() string {
	switch o {
	case OK:
		return "ok"
	case Nobody:
		return "nobody"
	case Slow:
		return "slow"
	default:
		return "refused"
	}
}

// Classify returns what err, with which a command of go-redis ended, says about
// the node. ctx is the caller's, without the node's own time-out: whether an
// expired deadline was the caller's impatience or the node's time-out shows
// only there.
func Classify(ctx context.Context, err error) Outcome {
	if err == nil {
		return OK
	}
	return classify(ctx, err)
}

func classify(ctx context.Context, err error) Outcome {
	var reply redis.Error
	switch {
	case errors.Is(err, redis.Nil), errors.Is(err, redis.TxFailedErr):
		return OK
	case errors.As(err, &reply):
		return classifyReply(reply)
	case isOurs(err):
		return Nobody
	case isTimeout(err):
		if isOver(ctx) {
			return Nobody
		}
		return Slow
	case errors.Is(err, context.Canceled):
		return Nobody
	}
	// What is left is about the connection: refused, reset, ended (EOF), no route,
	// no such host, a TLS failure, an answer that is not the Redis protocol.
	return Refused
}

// classifyReply classifies an error that the server itself sent.
func classifyReply(reply redis.Error) Outcome {
	text := strings.TrimPrefix(reply.Error(), "ERR ")
	switch code, _, _ := strings.Cut(text, " "); code {
	case "NOAUTH", "WRONGPASS", "NOPERM", "DENIED", // it does not know us
		"LOADING", "BUSY", "CLUSTERDOWN", "MASTERDOWN", // it is not ready
		"READONLY", "OOM", "MISCONF", "NOREPLICAS": // it takes no writes
		return Refused
	case "MOVED", "ASK":
		// A redirection that go-redis did not follow to its end: slots move to
		// and fro, or the node is one of a cluster and should not be used alone.
		return Slow
	}
	if strings.HasPrefix(text, "The user executing the script can't ") { // NOPERM within a script, in Redis 7.0
		return Refused
	}
	for _, prefix := range handshakeErrors {
		if strings.HasPrefix(text, prefix) {
			return Refused
		}
	}
	// WRONGTYPE, NOSCRIPT, CROSSSLOT, TRYAGAIN, a script's own error, a syntax
	// error: another command would have done.
	return Nobody
}

// handshakeErrors are how errors without a code of their own begin that a server
// sends to new connections, and with which all commands then end.
var handshakeErrors = []string{
	"max number of clients",
	"invalid password", // up to Redis 5
	"Client sent AUTH, but no password is set",
	"AUTH <password> called without any password configured",
	"DB index is out of range",
	"invalid DB index",
}

// isOurs reports whether err arose in this process and for its own reasons.
func isOurs(err error) bool {
	return errors.Is(err, redis.ErrPoolTimeout) || errors.Is(err, redis.ErrPoolExhausted) ||
		errors.Is(err, errQueueFull) ||
		errors.Is(err, redis.ErrClosed) || errors.Is(err, net.ErrClosed) ||
		strings.HasPrefix(err.Error(), "redis: can't marshal")
}

func isTimeout(err error) bool {
	var network net.Error
	return errors.Is(err, context.DeadlineExceeded) ||
		errors.As(err, &network) && network.Timeout()
}

// isOver reports whether ctx has ended. It also looks at the deadline: a
// connection's deadline that was set from it may fire before the context's.
func isOver(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return ctx.Err() != nil || ok && !time.Now().Before(deadline)
}
