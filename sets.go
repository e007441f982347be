package fluster

import (
	"maps"
	"slices"
)

func contains(list []string, s string) bool { return slices.Contains(list, s) }

// intersect returns the members of a that are in b.
func intersect(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(s string) bool { return !contains(b, s) })
}

// union returns the members of a, and those of b that are not in a.
func union(a, b []string) []string {
	for _, s := range b {
		if !contains(a, s) {
			a = append(a, s)
		}
	}
	return a
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
