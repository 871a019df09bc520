#!/bin/sh
# Programs that the tests run Twinstack against, out of Debian's packages: unpacked below .venv/debian and not installed,
# so that no service of theirs starts on this machine. Does nothing when they are there.
set -eu
cd "$(dirname "$0")/.."

place=.venv/debian
peers="etcd-server containernetworking-plugins containerd iperf3 libiperf0 libsctp1"
absent=""
for peer in $peers; do
    [ -e "$place/.$peer" ] || absent="$absent $peer"
done
[ -z "$absent" ] && exit 0
if ! command -v apt-get >/dev/null 2>&1; then
    echo "The tests need programs from these Debian packages:$absent" >&2
    exit 1
fi
echo "Unpacking$absent"
mkdir -p "$place"
fetched=$(mktemp -d)
trap 'rm -rf "$fetched"' EXIT
fetch() { (cd "$fetched" && apt-get download -q -o APT::Sandbox::User=root $absent); }
fetch >/dev/null 2>&1 || { apt-get update -q >/dev/null && fetch >/dev/null; }
for archive in "$fetched"/*.deb; do
    dpkg-deb -x "$archive" "$place"
done
for peer in $absent; do
    : >"$place/.$peer"
done
