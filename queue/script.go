package queue

import (
	"context"
	"errors"
	"strings"

	"github.com/redis/go-redis/v9"
)

// A luaScript runs on one partition, all at once or not at all.
type luaScript struct {
	script *redis.Script
	old    *redis.Script // for servers before Redis 7, which know no flags
}

// newScript returns a script that a full node runs as well.
func newScript(source string) luaScript {
	return luaScript{script: redis.NewScript("#!lua flags=allow-oom\n" + source), old: redis.NewScript(source)}
}

// newWriteScript returns a script that a full node refuses, before it has
// written anything.
func newWriteScript(source string) luaScript {
	s := redis.NewScript(source)
	return luaScript{script: s, old: s}
}

// A call is one run of a script, on its way with others in a pipeline.
type call struct {
	script luaScript
	keys   []string
	args   []any
	*redis.Cmd
}

// run runs one script and returns its reply.
func (s luaScript) run(ctx context.Context, p *partition, keys []string, args ...any) *redis.Cmd {
	ctx = p.with(ctx)
	if !p.taken.old.Load() {
		cmd := s.script.Run(ctx, p.client(), keys, args...)
		if err := cmd.Err(); err == nil || !strings.Contains(err.Error(), "compiling script") {
			return cmd
		}
		p.taken.old.Store(true)
	}
	return s.old.Run(ctx, p.client(), keys, args...)
}

// runAll runs several scripts in one round trip, each on its own. Each call has
// its own reply or error then; the error that is returned is one of the
// connection, which is that of all of them.
func runAll(ctx context.Context, p *partition, calls []*call) error {
	if len(calls) == 0 {
		return nil
	}
	if len(calls) == 1 {
		c := calls[0]
		c.Cmd = c.script.run(ctx, p, c.keys, c.args...)
		return connectionError(c.Err())
	}
	pipe := p.client().Pipeline()
	for _, c := range calls {
		s := c.script.script
		if p.taken.old.Load() {
			s = c.script.old
		}
		c.Cmd = s.EvalSha(p.with(ctx), pipe, c.keys, c.args...)
	}
	_, _ = pipe.Exec(p.with(ctx)) // each command has its error
	var err error
	for _, c := range calls {
		if redis.HasErrorPrefix(c.Err(), "NOSCRIPT") {
			c.Cmd = c.script.run(ctx, p, c.keys, c.args...)
		}
		err = errors.Join(err, connectionError(c.Err()))
		if err != nil {
			return err
		}
	}
	return nil
}

// runEach is runAll, and returns the first error of any of the calls.
func runEach(ctx context.Context, p *partition, calls []*call) error {
	if err := runAll(ctx, p, calls); err != nil {
		return err
	}
	for _, c := range calls {
		if c.Err() != nil {
			return c.Err()
		}
	}
	return nil
}

// readAll sends commands that read. What is of a type that it should not be reads as
// what is not there: one such key must not keep others from being read.
func readAll(ctx context.Context, pipe redis.Pipeliner) error {
	cmds, err := pipe.Exec(ctx)
	if len(cmds) == 0 {
		return err
	}
	for _, cmd := range cmds {
		if err := cmd.Err(); err != nil && !errors.Is(err, redis.Nil) && !repliedWith(err, "WRONGTYPE") {
			return err
		}
	}
	return nil
}

// textsOf returns the n values that a command was to read; empty is what was not there.
func textsOf(cmd *redis.SliceCmd, n int) []string {
	out := make([]string, n)
	for i, v := range cmd.Val() {
		out[i], _ = v.(string)
	}
	return out
}

// connectionError returns err unless the server itself answered so.
func connectionError(err error) error {
	var reply redis.Error
	if errors.As(err, &reply) {
		return nil
	}
	return err
}

// isFull reports whether a node refused a write because it has no memory left.
func isFull(err error) bool { return repliedWith(err, "OOM") }

// isNoGroup reports whether the stream or its group is not there. Who waits at a stream
// that is deleted is UNBLOCKED by Redis 7.0.
func isNoGroup(err error) bool { return repliedWith(err, "NOGROUP") || repliedWith(err, "UNBLOCKED") }

// repliedWith reports whether the server's answer was an error with this code.
// Before Redis 7, what a command says within a script is in the middle.
func repliedWith(err error, code string) bool {
	var reply redis.Error
	if !errors.As(err, &reply) {
		return false
	}
	return strings.HasPrefix(reply.Error(), code+" ") || strings.Contains(reply.Error(), "-"+code+" ")
}
