#!/bin/sh
# Installs a C compiler by the system's package manager, unless Go finds one:
# Go's race detector needs it. It says what it does.
set -eu
. "$(dirname "$0")/packages.sh"

have_compiler() {
	# CC may be a command with arguments; its first word is the program.
	set -- $(go env CC)
	[ $# -gt 0 ] && command -v "$1" >/dev/null 2>&1
}

if have_compiler; then
	exit 0
fi
manager=$(package_manager)
say "The race detector needs a C compiler and there is none; installing it with ${manager:-…}"
case "$manager" in
apt-get) apt_install gcc libc6-dev ;;
dnf) as_root dnf install -y gcc glibc-devel >&2 ;;
apk) as_root apk add gcc musl-dev >&2 ;;
brew)
	say "Run this, and then try again: xcode-select --install"
	exit 1
	;;
*)
	say "No apt-get, dnf, apk or brew here. Install gcc or clang, so that it is on PATH."
	exit 1
	;;
esac
