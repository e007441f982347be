//go:build !race

package soak

const (
	raced  = false
	slower = 1
)
