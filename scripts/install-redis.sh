#!/bin/sh
# Installs redis-server (and redis-cli) by the system's package manager,
# unless it is there. It says what it does, and starts no system service.
set -eu
. "$(dirname "$0")/packages.sh"

have_server() {
	command -v redis-server >/dev/null 2>&1 || command -v valkey-server >/dev/null 2>&1
}

if have_server; then
	exit 0
fi
manager=$(package_manager)
say "redis-server is not installed; installing it with ${manager:-…}"
case "$manager" in
apt-get) apt_install redis-server ;;
# Where Redis gave way to Valkey, a package brings the commands' old names.
dnf) as_root dnf install -y redis >&2 || as_root dnf install -y valkey valkey-compat-redis >&2 ;;
apk) as_root apk add redis >&2 || as_root apk add valkey valkey-compat >&2 ;;
brew) brew install redis >&2 ;;
*)
	say "No apt-get, dnf, apk or brew here. Install Redis 7 or later, or Valkey, so that redis-server is on PATH."
	exit 1
	;;
esac
if ! have_server; then
	say "The package is installed, but redis-server is not on PATH."
	exit 1
fi
