package queue

import (
	"context"
	"slices"
	"time"
)

const (
	// renewMost bounds how many entries one script renews.
	renewMost = 500
	// renewEvery is how often what is held is renewed at least. Others judge by their
	// own visibility, which may be shorter while a configuration changes.
	renewEvery = time.Second
)

// renew is the loop that hides what is held for another visibility, at least three
// times in each, so that one failure or two lose nothing.
func (s *source) renew(ctx context.Context) {
	every := min(s.w.client.o.Visibility/3, renewEvery)
	for {
		sleep(ctx, every)
		if ctx.Err() != nil {
			return
		}
		if err := s.renewAll(ctx, every/2); err != nil {
			s.trouble(ctx, "renewing", err)
			// The node may be back in a moment; what is held has not so long.
			sleep(ctx, every/8)
			s.trouble(ctx, "renewing", s.renewAll(ctx, every/2))
		}
	}
}

// renewAll renews what is held for longer than since.
func (s *source) renewAll(ctx context.Context, since time.Duration) error {
	for in, hs := range s.heldFor(since) {
		for part := range slices.Chunk(hs, renewMost) {
			if err := s.renewPart(ctx, in, part); err != nil {
				return err
			}
		}
	}
	return nil
}

// heldFor returns what is held for longer than since, by lane.
func (s *source) heldFor(since time.Duration) map[*inlet][]*held {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[*inlet][]*held{}
	now := time.Now()
	for k, h := range s.held {
		if now.Sub(h.since) > since {
			out[k.lane] = append(out[k.lane], h)
		}
	}
	return out
}

// renewPart renews entries of one lane. What another worker has is lost.
func (s *source) renewPart(ctx context.Context, in *inlet, hs []*held) error {
	args := make([]any, 0, 2+len(hs))
	args = append(args, group, s.name)
	for _, h := range hs {
		args = append(args, h.id)
	}
	codes, err := renewScript.run(ctx, s.p, []string{in.key}, args...).Int64Slice()
	if err != nil {
		return err
	}
	for i, h := range hs {
		if i < len(codes) && codes[i] == codeLost {
			s.lose(h)
			continue
		}
		s.noteRenewal(h)
	}
	return nil
}
