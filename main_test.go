package fluster_test

import (
	"os"
	"testing"

	_ "github.com/caddy-fluster/caddy-fluster"
	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
)

// TestMain lets a test run this binary as Caddy itself.
func TestMain(m *testing.M) {
	caddytest.MainIfChild()
	os.Exit(m.Run())
}
