package queue

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// SetPaused stops workers everywhere from taking messages, or lets them go on.
// They see it within some two seconds; what they have taken they deliver. Each
// partition is paused on its own: the error names those that could not be told,
// the others are.
func (c *Client) SetPaused(ctx context.Context, paused bool) error {
	doing := "resuming"
	if paused {
		doing = "pausing"
	}
	return c.onAll(func(p *partition) error {
		var err error
		if paused {
			err = p.client().Set(p.with(ctx), p.keys.paused(), "1", 0).Err()
		} else {
			err = p.client().Unlink(p.with(ctx), p.keys.paused()).Err()
		}
		if err == nil {
			p.taken.seePause(paused)
		}
		return err
	}, doing)
}

// Paused reports whether some partition that tells is paused.
func (c *Client) Paused(ctx context.Context) (bool, error) {
	var mu sync.Mutex
	paused, told := false, false
	err := c.onAll(func(p *partition) error {
		n, err := p.client().Exists(p.with(ctx), p.keys.paused()).Result()
		mu.Lock()
		defer mu.Unlock()
		told = told || err == nil
		paused = paused || n > 0
		return err
	}, "asking whether it is paused")
	if told {
		return paused, nil
	}
	return false, err
}

// onAll does something on all partitions at once, and returns what went wrong
// where. Errors are ErrNoNode as well.
func (c *Client) onAll(do func(p *partition) error, doing string) error {
	errs := make([]error, len(c.partitions))
	var wg sync.WaitGroup
	for i, p := range c.partitions {
		wg.Go(func() {
			if err := do(p); err != nil {
				errs[i] = fmt.Errorf("%s on %s: %w: %w", doing, p.ref, ErrNoNode, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
