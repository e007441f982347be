package fluster

import (
	"bytes"

	"github.com/spf13/cobra"
)

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
