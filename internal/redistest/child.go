package redistest

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// A Child is a process that ends at the latest with this one (on Linux; other
// systems leave it behind when this process is killed). Its methods are safe
// for concurrent use.
type Child struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended and was waited for
}

// StartChild starts cmd, which must not be started yet; its SysProcAttr is
// set here. cmd's streams should be files: a child that is paused keeps the
// other end of a pipe open.
func StartChild(cmd *exec.Cmd) (*Child, error) {
	endWithParent(cmd)
	c := &Child{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go c.startAndWait(started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("starting %s: %w", cmd.Path, err)
	}
	return c, nil
}

// startAndWait starts the process, says so on started, and waits until the
// process ends. It does both on one locked thread: Linux ends a child with
// the thread that started it, not with the process of that thread, and this
// thread cannot end before the child does.
func (c *Child) startAndWait(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := c.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	_ = c.cmd.Wait() // how it ended is in cmd.ProcessState
	close(c.done)
}

// PID returns the child's process ID, also after its end.
func (c *Child) PID() int { return c.cmd.Process.Pid }

// Done returns a channel that is closed when the child has ended.
func (c *Child) Done() <-chan struct{} { return c.done }

// Running reports whether the child has not ended yet.
func (c *Child) Running() bool {
	select {
	case <-c.done:
		return false
	default:
		return true
	}
}

// Stop ends the child by SIGTERM, also a paused one, and waits until it is
// gone. A child that takes longer than timeout is killed, which is an error.
func (c *Child) Stop(timeout time.Duration) error {
	if !c.Running() {
		return nil
	}
	// A child that ends by itself in between makes these fail, which is as
	// good; what counts is that it is gone.
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	_ = c.cmd.Process.Signal(sigContinue)
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-c.done:
		return nil
	case <-timer.C:
		c.Kill()
		return fmt.Errorf("stopping %s (process %d): it had to be killed after %v", c.cmd.Path, c.PID(), timeout)
	}
}

// Kill ends the child by SIGKILL, also a paused one, and waits until it is
// gone.
func (c *Child) Kill() {
	_ = c.cmd.Process.Kill()
	<-c.done
}

// Signal sends sig to the child; os.ErrProcessDone says that it has ended.
func (c *Child) Signal(sig os.Signal) error { return c.cmd.Process.Signal(sig) }
