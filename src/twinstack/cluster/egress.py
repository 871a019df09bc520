"""Let a cluster's nodes and pods reach what the machine reaches, in user space: the part `egress`.

```
pods ─ node (its address instead of theirs) ─ switch ─ out0 ─ pasta, a process of the machine with ordinary sockets
```

The device is in the switch's namespace and goes with the process (pasta(1), of Debian's package passt): the machine
gains no interface, address, route or rule, and nobody comes in this way. Its loopback is not reached.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from twinstack.cluster.errors import ClusterError
from twinstack.ip import CIDR, IPFamily
from twinstack.ip.addresses import parse_cidrs
from twinstack.linux import namespaces, netlink, policyrouting
from twinstack.linux.nftables.batch import Nftables
from twinstack.linux.nftables.expressions import Compare, Meta, compare, load_meta, masquerade
from twinstack.linux.nftables.objects import ChainType, Hook, Priority, Table

PROGRAM, PACKAGE = "pasta", "passt"
DEVICE = "out0"
NETWORK = {IPFamily.IPV4: CIDR.parse("192.0.0.0/29"), IPFamily.IPV6: CIDR.parse("fd00:30:0:ffff::/64")}

_TABLE, _CHAIN = "twinstack-egress", "postrouting"
_OUTSIDE = {IPFamily.IPV4: "192.0.2.1", IPFamily.IPV6: "2001:db8::1"}  # anywhere
_DISCARD = 9


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--network-namespace", required=True, metavar="PATH", help="the switch")
    parser.add_argument("--inside", required=True, metavar="A[,B…]", help="blocks of the cluster: they stay in it")


def run(args: argparse.Namespace) -> int:
    """Become pasta, which ends with the namespace."""
    program = find()
    inside = [parse_cidrs(text)[0] for text in args.inside.split(",")]
    path = Path(args.network_namespace)
    namespaces.inside(path, lambda: _prepare(inside))
    _become(program, path)


def find() -> str:
    """The program. Raises ClusterError without it."""
    program = shutil.which(PROGRAM)
    if program is None:
        advice = f"apt-get install -y --no-install-recommends {PACKAGE}"
        raise ClusterError(f"pods reach the outside by {PROGRAM}, which is not installed", advice)
    return program


def families() -> list[IPFamily]:
    """Those in which this machine has a way to the outside. Nothing is sent."""
    return [family for family in IPFamily if _has_way(family)]


def _has_way(family: IPFamily) -> bool:
    try:
        with socket.socket(family.af, socket.SOCK_DGRAM) as probe:
            probe.connect((_OUTSIDE[family], _DISCARD))
        return True
    except OSError:
        return False


def _prepare(inside: Sequence[CIDR]) -> None:
    """In the switch: packets that leave bear its address; those to nobody in the cluster do not leave. Idempotent."""
    route = netlink.NetlinkSocket(netlink.ROUTE)
    try:
        route.request([policyrouting.unreachable(block) for block in inside])
    finally:
        route.close()
    connection = Nftables()
    try:
        connection.commit([message for family in IPFamily for message in lay(family)])
    finally:
        connection.close()


def lay(family: IPFamily) -> list[bytes]:
    """pasta knows one address a family; all others hide behind it."""
    table = Table(family, _TABLE)
    name = DEVICE.encode().ljust(16, b"\0")
    leaving = load_meta(Meta.OUTPUT_INTERFACE, 1) + compare(1, Compare.EQUAL, name)
    return [
        table.create(),  # so that there is one to delete
        table.delete(),
        table.create(comment="the way out of twinstack up --egress"),
        table.base_chain(_CHAIN, ChainType.NAT, Hook.POSTROUTING, Priority.SOURCE_NAT),
        table.rule(_CHAIN, leaving, masquerade()),
    ]


def _become(program: str, path: Path) -> NoReturn:
    words = [program, "--foreground", "--stderr", "--quiet"]
    words += ["--runas", "0:0"]  # another user could not enter the namespace; it gives up all rights that it can
    words += ["--config-net", "--ns-ifname", DEVICE, "--mtu", "1500", "--no-map-gw"]
    words += ["--no-dhcp", "--no-dhcpv6", "--no-ra"]
    for family, network in NETWORK.items():
        words += ["--gateway", str(network.address(1)), "--address", str(network.address(2))]
        words += ["--netmask", str(network.prefix)] if family is IPFamily.IPV4 else []
    for direction in ("--tcp-ports", "--udp-ports", "--tcp-ns", "--udp-ns"):
        words += [direction, "none"]
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # pasta takes the interpreter's disposition for an error
    os.execv(program, [*words, "--netns", str(path)])
