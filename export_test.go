package fluster

import (
	"bytes"

	"github.com/spf13/cobra"
)

// RunCommand runs `caddy fluster …` in this process, and returns what it says.
func RunCommand(args ...string) (string, error) {
	cmd := &cobra.Command{Use: "fluster", SilenceErrors: true, SilenceUsage: true}
	command.CobraFunc(cmd)
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SetArgs(args)
	err := cmd.Execute()
	return out.String(), err
}
