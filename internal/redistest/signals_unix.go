//go:build unix && !linux

package redistest

import (
	"os/exec"
	"syscall"
)

const (
	sigStop     = syscall.SIGSTOP
	sigContinue = syscall.SIGCONT
)

// endWithParent does nothing: only Linux ends a process with its parent.
func endWithParent(*exec.Cmd) {}

// isPaused reports true: here it cannot be told when a signal has arrived.
func isPaused(int) bool { return true }
