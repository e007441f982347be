#!/bin/sh
# Installs by the system's package manager what the benchmarks run beside Redis,
# unless it is there: wrk, which makes the load, and as peers nginx and Varnish.
# Without wrk there is no benchmark; without a peer its row is missing. It says
# what it does, and starts no system service.
set -eu
. "$(dirname "$0")/packages.sh"

have() {
	for dir in $(printf '%s' "$PATH" | tr ':' ' ') /usr/sbin /usr/local/sbin; do
		if [ -x "$dir/$1" ]; then return 0; fi
	done
	return 1
}

install() {
	manager=$(package_manager)
	say "$1 is not installed; installing it with ${manager:-…}"
	case "$manager" in
	apt-get) apt_install "$2" ;;
	dnf) as_root dnf install -y "$2" >&2 ;;
	apk) as_root apk add "$2" >&2 ;;
	brew) brew install "$2" >&2 ;;
	*) return 1 ;;
	esac
}

have wrk || install wrk wrk || { say "wrk could not be installed, and nothing can be measured without it."; exit 1; }
have nginx || install nginx nginx || say "nginx could not be installed: its row will be missing."
have varnishd || install varnishd varnish || say "Varnish could not be installed: its row will be missing."
