package shard

import (
	"context"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"
)

// A commandHook gives each command of a client the node's time-out, and reports
// its outcome. go-redis's own time-outs apply to each of the waits within a
// command: for a connection, for a dial, for the handshake, for the answer.
type commandHook struct {
	node *Node
}

// DialHook changes nothing.
func (h commandHook) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook bounds and reports one command.
func (h commandHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if isHandshake(cmd) {
			return next(ctx, cmd)
		}
		bounded, cancel := h.bound(ctx, cmd)
		defer cancel()
		err := next(bounded, cmd)
		h.node.asked(ctx).report(Classify(ctx, err), err)
		return err
	}
}

// ProcessPipelineHook bounds a pipeline or transaction as one command, and
// reports the worst outcome in it.
func (h commandHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if len(cmds) == 0 || isHandshake(cmds[0]) {
			return next(ctx, cmds)
		}
		bounded, cancel := h.bound(ctx, cmds...)
		defer cancel()
		err := next(bounded, cmds)
		setErrors(cmds, err)
		worst, cause := Classify(ctx, err), err
		for _, cmd := range cmds {
			if o := Classify(ctx, cmd.Err()); o > worst {
				worst, cause = o, cmd.Err()
			}
		}
		h.node.asked(ctx).report(worst, cause)
		return err
	}
}

// bound returns ctx with the node's time-out, unless a command among cmds is
// one that waits at the server on purpose.
func (h commandHook) bound(ctx context.Context, cmds ...redis.Cmder) (context.Context, context.CancelFunc) {
	for _, cmd := range cmds {
		if isBlocking(cmd) {
			return ctx, func() {}
		}
	}
	return context.WithTimeout(ctx, h.node.timeout)
}

// setErrors gives the commands of a pipeline the error that it ended with, if none of
// them has one. go-redis leaves them without where a server takes a connection and
// then refuses to serve it (NOAUTH, too many clients, …): what was never sent would
// count as done.
func setErrors(cmds []redis.Cmder, err error) {
	if err == nil || slices.ContainsFunc(cmds, func(cmd redis.Cmder) bool { return cmd.Err() != nil }) {
		return
	}
	for _, cmd := range cmds {
		cmd.SetErr(err)
	}
}

// isHandshake reports whether go-redis sends cmd of its own accord when a
// connection is new. Those commands run within another one, whose outcome says
// what came of them; alone, an answered HELLO says little.
func isHandshake(cmd redis.Cmder) bool {
	switch strings.ToLower(cmd.Name()) {
	case "hello", "auth", "select", "client", "readonly":
		return true
	}
	return false
}

// isBlocking reports whether the server may keep cmd waiting for as long as the
// command itself says.
func isBlocking(cmd redis.Cmder) bool {
	switch strings.ToLower(cmd.Name()) {
	case "blpop", "brpop", "brpoplpush", "blmove", "blmpop",
		"bzpopmin", "bzpopmax", "bzmpop", "wait", "waitaof":
		return true
	case "xread", "xreadgroup":
		for _, arg := range cmd.Args()[1:] {
			switch s, _ := arg.(string); strings.ToLower(s) {
			case "block":
				return true
			case "streams": // what follows are keys
				return false
			}
		}
	}
	return false
}
