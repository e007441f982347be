package redistest

import (
	"bytes"
	"os"
	"os/exec"
	"strconv"
	"syscall"
)

const (
	sigStop     = syscall.SIGSTOP
	sigContinue = syscall.SIGCONT
)

// endWithParent makes the process of cmd end when the thread that starts it
// does, and so at the latest with this process. Its own process group keeps a
// terminal's Ctrl-C from it, which is for this process to act on.
func endWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}

// isPaused reports whether process pid has come to a halt after SIGSTOP.
func isPaused(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	// "pid (command) state …", where the command may hold any character.
	_, state, found := bytes.Cut(stat[bytes.LastIndexByte(stat, ')')+1:], []byte(" "))
	return found && len(state) > 0 && (state[0] == 'T' || state[0] == 't')
}
