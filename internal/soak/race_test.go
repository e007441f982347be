//go:build race

package soak

// raced says that the race detector runs, which has memory and goroutines of its
// own, and makes all slower by the factor slower.
const (
	raced  = true
	slower = 10
)
