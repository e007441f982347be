package fluster

import (
	"bytes"
	"testing"

	"github.com/spf13/cobra"
)

// MaxLater is how many validations in the background one fluster_cache has under way.
const MaxLater = maxLater

// EndMark makes the time be over for which the responses of a key, in the pool
// without a name, are known to be for nobody else. It reports whether they were.
func EndMark(key string) bool {
	alone := appInForce().pools[""].alone
	m, ok := alone.Get(key)
	m.until = 0
	alone.Set(key, m)
	return ok
}

// RunCommand runs `caddy fluster …` in this process, and returns what it says.
func RunCommand(args ...string) (string, error) {
	cmd := &cobra.Command{Use: "fluster"}
	command.CobraFunc(cmd)
	root := &cobra.Command{Use: "caddy", SilenceErrors: true, SilenceUsage: true}
	root.AddCommand(cmd)
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&out)
	root.SetArgs(append([]string{"fluster"}, args...))
	err := root.Execute()
	return out.String(), err
}

// Waiting returns how many requests wait for the heads of others' forwards, in the pool
// without a name.
func Waiting() (n int) {
	fs := &appInForce().pools[""].flights
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for _, f := range fs.open {
		f.mu.Lock()
		n += f.waiting
		f.mu.Unlock()
	}
	return n
}

// TakeRoom takes all but left of what bodies under way may take together, in the pool
// without a name, until the test is over.
func TakeRoom(tb testing.TB, left int64) {
	recorded := &appInForce().pools[""].flights.recorded
	recorded.Add(maxRecorded - left)
	tb.Cleanup(func() { recorded.Add(left - maxRecorded) })
}
