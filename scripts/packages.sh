# Functions for the install scripts beside this file, which read it with
# "." (dot). Nothing here runs by itself.

say() {
	printf '%s\n' "$*" >&2
}

# as_root COMMAND… runs the command as root: directly, or by sudo.
as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	elif command -v sudo >/dev/null 2>&1; then
		sudo "$@"
	else
		say "This needs root, and there is no sudo. As root, run: $*"
		return 1
	fi
}

# apt_install PACKAGE… installs packages of Debian and its kin. They may
# bring a system service, which nobody asked to be started: policy-rc.d keeps
# it from starting, unless this machine has such a policy already.
apt_install() {
	policy=/usr/sbin/policy-rc.d
	ours=
	if [ ! -e "$policy" ]; then
		ours=yes
		printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
		trap 'as_root rm -f "$policy"' EXIT
		trap 'exit 1' HUP INT TERM
		as_root chmod 755 "$policy"
	fi
	as_root apt-get update -q >&2
	as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@" >&2
	if [ -n "$ours" ]; then
		as_root rm -f "$policy"
		trap - EXIT HUP INT TERM
	fi
}

# package_manager prints the name of the one that this system has.
package_manager() {
	for name in apt-get dnf apk brew; do
		if command -v "$name" >/dev/null 2>&1; then
			printf '%s\n' "$name"
			return
		fi
	done
}
