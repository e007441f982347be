//go:build !unix

package redistest

import (
	"os/exec"
	"syscall"
)

// These signals do not exist here: sending one is an error.
const (
	sigStop     = syscall.Signal(-1)
	sigContinue = syscall.Signal(-1)
)

// endWithParent does nothing: only Linux ends a process with its parent.
func endWithParent(*exec.Cmd) {}

// isPaused reports true: nothing was paused.
func isPaused(int) bool { return true }
