#!/bin/sh
# Runs every fuzz test of the module for the time given as first argument
# (30s when there is none), one after the other, and stops at the first find.
set -eu
time=${1:-30s}
for package in $(go list ./...); do
	for target in $(go test -list '^Fuzz' "$package" | grep '^Fuzz' || true); do
		printf '%s %s for %s\n' "$package" "$target" "$time"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "$package"
	done
done
