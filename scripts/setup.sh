#!/bin/sh
# Installs what is missing to run and test Twinstack: Debian packages (as root) and .venv from the lock file.
# Does nothing, within a few milliseconds, when nothing is missing.
set -eu
cd "$(dirname "$0")/.."

packages=""
missing() { command -v "$1" >/dev/null 2>&1 || packages="$packages $2"; }
missing python3 python3
missing ip iproute2
missing nft nftables
missing conntrack conntrack
missing curl curl
missing strace strace # the tests read the order of system calls
missing nsenter util-linux
missing runc runc # with conmon it makes the containers of pods; crun is as good where it runs
missing conmon conmon
missing busybox busybox-static # of which the image twinstack.local/busybox is made
missing pasta passt # for up --egress
[ -e /etc/protocols ] || packages="$packages netbase" # by which nft says tcp for 6
stamp=.venv/.installed
want=$(cat requirements.lock pyproject.toml | sha256sum | cut -c1-64)
system=/usr/bin/python3 # preferred below: it starts three times faster than most others
[ -x $system ] || system=python3
if [ ! -x .venv/bin/python ] && ! "$system" -c 'import ensurepip' >/dev/null 2>&1; then
    packages="$packages python3-venv"
fi
if [ -n "$packages" ]; then
    command="apt-get install -y --no-install-recommends$packages"
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
        echo "These packages are missing:$packages" >&2
        echo "Install them (on Debian and Ubuntu: sudo $command), then run this again." >&2
        exit 1
    fi
    echo "Installing$packages"
    export DEBIAN_FRONTEND=noninteractive
    $command >/dev/null 2>&1 || { apt-get update -q >/dev/null && $command >/dev/null; }
fi

compile() { # for environments that forbid Python to keep what it compiles: every start would compile again
    .venv/bin/python -m compileall -q src
}

if [ "$(cat $stamp 2>/dev/null || true)" = "$want" ]; then
    compile
    exit 0
fi

python=""
for candidate in /usr/bin/python3 python3 python3.13 python3.12 python3.11; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    echo "Twinstack needs Python 3.11 or newer, as Debian 12 and Ubuntu 24.04 have it; found: $(python3 --version)." >&2
    exit 1
fi
echo "Making .venv with $("$python" --version) from requirements.lock"
[ -x .venv/bin/python ] || "$python" -m venv .venv
.venv/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
.venv/bin/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
compile
echo "$want" >$stamp
