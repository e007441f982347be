package shard

import (
	"context"
	"slices"

	"github.com/redis/go-redis/v9"
)

// A redirectHook sends what a pipeline has for one member of a cluster, and follows
// the redirections (MOVED, ASK) in its answers one command after the other. It is
// on the cluster's client and on that of each member.
//
// It exists because go-redis collects the redirected ones of a pipeline, and then,
// where the first command may be repeated or the connection breaks, adds the whole
// pipeline: what was redirected is sent twice, to two members at the same time, and
// their answers race for the one command. While a slot moves that is what usually
// happens, as half of the commands is redirected (ASK) and others are to be
// repeated (TRYAGAIN).
//
// A broken connection ends the pipeline's commands, as it does on a node that is no
// cluster: some may have been run.
type redirectHook struct {
	cluster *redis.ClusterClient
	member  *redis.Client // nil: the hook of the cluster
}

type redirectKey struct{} // → bool: whether the pipeline is one of the cluster's client

// DialHook changes nothing.
func (h redirectHook) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook changes nothing: go-redis sends a single command to one after the other.
func (h redirectHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

// ProcessPipelineHook sends a pipeline of the cluster's client.
func (h redirectHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if len(cmds) == 0 || cmds[0].Name() == "multi" {
			return next(ctx, cmds)
		}
		if h.member == nil {
			return next(context.WithValue(ctx, redirectKey{}, true), cmds)
		}
		if ours, _ := ctx.Value(redirectKey{}).(bool); !ours {
			return next(ctx, cmds)
		}
		return h.send(context.WithValue(ctx, redirectKey{}, false), cmds)
	}
}

// send sends commands to the member. Each has its own error then, and what is returned
// is one that none of them has.
func (h redirectHook) send(ctx context.Context, cmds []redis.Cmder) error {
	pipe := h.member.Pipeline()
	for _, cmd := range cmds {
		_ = pipe.Process(ctx, cmd) // only adds it
	}
	_, err := pipe.Exec(ctx)
	for _, cmd := range cmds {
		if cmd.Err() == nil {
			continue
		}
		err = nil
		if isRedirected(cmd.Err()) {
			_ = h.cluster.Process(ctx, cmd) // it has the error
		} else if Classify(ctx, cmd.Err()) > Nobody {
			h.cluster.ReloadState(ctx) // another may be master now
		}
	}
	return err
}

// isRedirected reports whether a member did nothing, and another one may, or the same
// one a moment later.
func isRedirected(err error) bool {
	return slices.ContainsFunc([]string{"MOVED ", "ASK ", "TRYAGAIN ", "READONLY "}, func(code string) bool {
		return redis.HasErrorPrefix(err, code)
	})
}
