//go:build race

package journal

// underRace: the race detector takes memory and time of its own.
const underRace = true
