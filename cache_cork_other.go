//go:build !linux

package fluster

// Other systems have no TCP_CORK, or one that does not send on what it kept when
// it is lifted.
const canCork = false

func setCork(uintptr, bool) {}
