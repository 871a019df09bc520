"""What this machine can do: each check tries the thing itself, in namespaces that end with the check.

A check returns a detail for people. It raises OSError or ClusterError when the machine cannot.
"""

from __future__ import annotations

import errno
import importlib
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

from twinstack.cluster import preconditions
from twinstack.cluster.configuration import DEFAULT_API_PORT
from twinstack.cluster.errors import ClusterError
from twinstack.cluster.state import PROGRAMS, RUN, home
from twinstack.ip import CIDR, Address, IPFamily
from twinstack.linux import links, mounts, namespaces, netlink, ociruntimes, syscalls, sysctl

T = TypeVar("T")

_BRIDGE, _NEAR, _FAR = 11, 12, 13  # indexes of links in a namespace of a check
_NEWFLOWTABLE, _FLOWTABLE_HOOK = 0xA16, 3
_ROUTER = Address.parse("fe80::1")


class Check(NamedTuple):
    """One ability. `advice` is said when a machine lacks it."""

    name: str
    required: bool
    run: Callable[[], str]
    advice: str


def alone(work: Callable[[], T], kinds: int = syscalls.CLONE_NEWNET) -> T:
    """Run `work` in a thread inside new namespaces, which go with the thread."""

    def run() -> T:
        syscalls.unshare(kinds)
        return work()

    return namespaces.in_thread(run)


def _request(*messages: bytes) -> None:
    route = netlink.NetlinkSocket(netlink.ROUTE)
    try:
        route.request(messages)
    finally:
        route.close()


def privileges() -> str:
    preconditions.check_privileges()
    return "root, with CAP_NET_ADMIN and CAP_SYS_ADMIN"


def python() -> str:
    version = sys.version.split()[0]
    for module in ("msgspec", "uvloop", "httptools", "cryptography", "yaml"):
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise ClusterError(f"{module}: {error}") from None
    return f"{version} with every package"


def interfaces() -> str:
    """What nodes are connected with."""

    def work() -> None:
        here = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            pair = links.veth("near", links.Peer(here, "far", _FAR), index=_NEAR, master=_BRIDGE)
            _request(links.bridge("br0", _BRIDGE), pair, links.link_up(_FAR))
        finally:
            os.close(here)

    alone(work)
    return "network namespaces, bridges, veth pairs"


def both_families() -> str:
    """What a pod is reached by: addresses of both families at once, and IPv4 by way of fe80::1."""

    def work() -> None:
        sysctl.write({"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1"})
        _request(
            links.bridge("br0", _BRIDGE),
            links.add_address(_BRIDGE, Address.parse("10.1.0.1"), 24),
            links.add_address(_BRIDGE, Address.parse("fd00:1::1"), 64),
            links.add_route(None, _BRIDGE, family=IPFamily.IPV6, via=_ROUTER),
            links.add_route(CIDR.parse("10.2.0.0/16"), _BRIDGE, family=IPFamily.IPV4, via=_ROUTER),
        )
        with socket.socket(socket.AF_INET6) as listener:
            listener.bind(("fd00:1::1", 0))  # fails while an address is checked for duplicates

    alone(work)
    return "addresses, routes and forwarding of IPv4 and IPv6"


def nftables() -> str:
    """What the Service proxy is made of: translation to what a map with a concatenated key holds."""
    from twinstack.linux.nftables import expressions as ex
    from twinstack.linux.nftables.batch import Nftables
    from twinstack.linux.nftables.objects import ChainType, Collection, DataType, Hook, Priority, Table

    def work() -> None:
        connection = Nftables()
        try:
            for family in IPFamily:
                table, address = Table(family, "check"), DataType.address(family)
                key = [address, DataType.PROTOCOL, DataType.PORT]
                chosen = Collection(table, "chosen", key, [address, DataType.PORT])
                first = ex.FIRST_REGISTER
                second = first + family.octets // 4
                rule = (
                    ex.destination_address(family, first),
                    ex.load_meta(ex.Meta.PROTOCOL, second),
                    ex.destination_port(second + 1),
                    ex.look_up("chosen", first, first),
                    ex.destination_nat(family, first, second),
                )
                chain = table.base_chain("nat", ChainType.NAT, Hook.PREROUTING, Priority.DESTINATION_NAT)
                connection.commit([table.create(), chosen.create(1), chain, table.rule("nat", *rule)])
                connection.commit([table.delete()])
        finally:
            connection.close()

    alone(work)
    return "maps with concatenated keys and translation in both families"


def owned_tables() -> str:
    """Tables that other programs cannot flush (Linux 6.9)."""
    from twinstack.linux.nftables.batch import Nftables
    from twinstack.linux.nftables.objects import Table, TableFlag

    def work() -> None:
        connection = Nftables()
        try:
            connection.commit([Table(IPFamily.IPV6, "check").create(TableFlag.OWNER | TableFlag.PERSIST)])
        finally:
            connection.close()

    alone(work)
    return "`nft flush ruleset` passes the proxy's tables by"


def fast_path() -> str:
    """Flow tables: established flows may pass the rules by (linux/netfilter/nf_tables.h)."""
    from twinstack.linux.nftables.batch import Nftables
    from twinstack.linux.nftables.objects import Table

    hook = netlink.nest(_FLOWTABLE_HOOK, netlink.be32(1, 0), netlink.be32(2, 0))  # ingress, priority 0

    def work() -> None:
        connection = Nftables()
        try:
            table = Table(IPFamily.IPV6, "check")
            flows = table.message(_NEWFLOWTABLE, netlink.CREATE, netlink.text(2, "flows"), hook)
            connection.commit([table.create(), flows])
        finally:
            connection.close()

    alone(work)
    return "flow tables"


def mount_namespaces() -> str:
    """What the file system of a pod is made of."""

    def work() -> None:
        mounts.make_private()
        with tempfile.TemporaryDirectory() as directory:
            mounts.mount("tmpfs", directory, "tmpfs")
            try:
                os.mkdir(f"{directory}/usr")
                mounts.bind("/usr", f"{directory}/usr", mounts.RDONLY)
                mounts.unmount(f"{directory}/usr")
            finally:
                mounts.unmount(directory)

    alone(work, syscalls.CLONE_NEWNS | syscalls.CLONE_NEWUTS | syscalls.CLONE_NEWIPC)
    return "mount, host name and IPC namespaces"


def overlay() -> str:
    """Layers of images over the state directory; they cannot be stacked where it is on an overlay itself."""

    def work() -> None:
        mounts.make_private()
        with tempfile.TemporaryDirectory(dir=_existing(home())) as directory:
            lower, upper, scratch, target = (f"{directory}/{name}" for name in ("lower", "upper", "work", "merged"))
            for path in (lower, upper, scratch, target):
                os.mkdir(path)
            mounts.overlay(target, lower, upper, scratch)
            mounts.unmount(target)

    alone(work, syscalls.CLONE_NEWNS)
    return f"overlay file systems under {_existing(home())}"


def state_directory() -> str:
    place = _existing(home())
    preconditions.check_space(place)
    with tempfile.TemporaryFile(dir=place) as file:
        file.write(bytes(4096))
        file.flush()
        os.fsync(file.fileno())
    with tempfile.TemporaryDirectory(dir=_existing(RUN)) as directory, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{directory}/{'s' * 32}")
    room = os.statvfs(place)
    return f"{home()}, {room.f_bavail * room.f_frsize >> 20} MiB free"


def process_descriptors() -> str:
    """How processes are watched and signalled (Linux 5.4)."""
    os.close(os.pidfd_open(os.getpid()))
    return f"Linux {os.uname().release}"


def api_port() -> str:
    from twinstack.cluster import ports

    try:
        ports.choose(DEFAULT_API_PORT, ())
    except ClusterError:
        raise ClusterError(f"127.0.0.1:{DEFAULT_API_PORT} is in use") from None
    return f"127.0.0.1:{DEFAULT_API_PORT} is free"


def link_kind(kind: str) -> str:
    """Whether the kernel makes interfaces of a kind."""

    def work() -> None:
        try:
            _request(links.of_kind("check", kind))
        except netlink.NetlinkError as error:
            if error.errno == errno.EOPNOTSUPP:
                raise
            # It knows the kind, and misses its options.

    alone(work)
    return f"{kind} interfaces"


def sctp() -> str:
    def work() -> None:
        socket.socket(socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_SCTP).close()

    alone(work)
    return "sockets; Services of protocol SCTP can be tried"


def tun() -> str:
    os.close(os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC))
    return "/dev/net/tun"


def program(*names: str) -> str:
    """Whether programs are on the path or beside this one."""
    missing = [name for name in names if find_program(name) is None]
    if missing:
        raise ClusterError(f"{', '.join(missing)} not found")
    return ", ".join(str(find_program(name)) for name in names)


def find_program(name: str) -> str | None:
    """Beside the `twinstack` that runs, in the directory of `tools install`, then on the path."""
    beside = os.path.dirname(os.path.abspath(sys.argv[0]))
    return shutil.which(name, path=os.pathsep.join([beside, str(home() / PROGRAMS), os.environ.get("PATH", "")]))


def _existing(path: Path) -> Path:
    """`path`, or the nearest directory above it that is there."""
    while not path.exists():
        path = path.parent
    return path


def oci_runtime() -> str:
    """Containers: which runtime makes them, and why not the other."""
    try:
        return ociruntimes.choose().summary
    except ociruntimes.NoRuntime as error:
        raise ClusterError(str(error)) from error
