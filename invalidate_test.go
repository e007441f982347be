package fluster_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	fluster "github.com/caddy-fluster/caddy-fluster"
	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
	"github.com/caddy-fluster/caddy-fluster/journal"
)

// A module of the same Caddy, or a program that is built with it, invalidates by
// a call.
func ExampleApp_Invalidate() {
	app, ok := fluster.Running()
	if !ok {
		fmt.Println("not running")
		return
	}
	ack, err := app.Invalidate(context.Background(), fluster.Invalidation{
		Message: journal.Message{Tag: []string{"product-42"}},
		Wait:    true,
	})
	fmt.Println(ack.Applied, ack.Owed, err)
}

// TestInvalidateByCall: the Go function does what the admin endpoint does.
func TestInvalidateByCall(t *testing.T) {
	var o *caddytest.Origin
	o = caddytest.NewOrigin(t, numbered(&o))
	servers, global := nodes(t, 2)
	c := caddytest.Load(t, global, cached(o))
	c.WaitUp(2)
	old := string(wantHit(t, c, "near", "/?tags=x").Body)
	app, ok := fluster.Running()
	if !ok {
		t.Fatal("no app is running")
	}
	tagged := func(pool string, tag ...string) fluster.Invalidation {
		return fluster.Invalidation{Message: journal.Message{Tag: tag}, Pool: pool}
	}
	for _, bad := range []fluster.Invalidation{tagged(""), tagged("", ""), tagged("nobody", "x")} {
		if _, err := app.Invalidate(t.Context(), bad); err == nil || errors.Is(err, fluster.ErrQuorum) {
			t.Errorf("%+v: got %v, want an error that says what is wrong", bad, err)
		}
	}
	if r := c.Get("/?tags=x"); string(r.Body) != old {
		t.Errorf("after what was refused: got %s, want the hit %q", r, old)
	}
	ack, err := app.Invalidate(t.Context(), tagged("", "x"))
	if err != nil || fmt.Sprint(ack.Applied) != "[a b]" || ack.ID == "" || len(ack.Owed) != 0 {
		t.Errorf("got %+v, %v, want it on a and b", ack, err)
	}
	if r := c.Get("/?tags=x"); string(r.Body) == old {
		t.Errorf("after the invalidation: got %s", r)
	}
	for _, s := range servers {
		s.Kill()
	}
	if ack, err := app.Invalidate(t.Context(), tagged("", "x")); !errors.Is(err, fluster.ErrQuorum) || len(ack.Owed) != 2 {
		t.Errorf("with no node: got %+v, %v, want ErrQuorum and both nodes owed", ack, err)
	}
	c.Stop()
	if _, err := app.Invalidate(t.Context(), tagged("", "x")); err == nil || errors.Is(err, fluster.ErrQuorum) {
		t.Errorf("an app that was stopped: got %v, want an error", err)
	}
}

// TestNotUTF8: a tag that JSON cannot tell of is refused, not acknowledged as another
// one.
func TestNotUTF8(t *testing.T) {
	_, global := nodes(t, 1)
	c := caddytest.Load(t, global, "")
	c.WaitUp(1)
	if out, err := fluster.RunCommand("invalidate", "tag", "caf\xe9", "--address", c.Admin); err == nil {
		t.Errorf("caddy fluster invalidate: got %q, want an error", out)
	}
	if r := c.Invalidate("{\"tag\":[\"caf\xe9\"]}"); r.Status != 400 {
		t.Errorf("the admin endpoint: got %s, want 400", r)
	}
}
