"""A node of its own namespace, on which containers' namespaces are given to plugins as a runtime does it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from twinstack.ip import Address, IPFamily
from twinstack.linux import links, namespaces, netlink, sysctl
from twinstack.linux.addresses import settle
from twinstack.node.cni.install import install

ROOT = Path(__file__).parents[4]
DEBIAN = ROOT / ".venv" / "debian"  # see scripts/unpack_peers.sh
PLUGINS = DEBIAN / "usr" / "lib" / "cni"
PREFIX = f"tt-C-{os.getpid()}"
NODE_IPS = ("172.30.0.11", "fd00:30::11")
PATIENCE = 60.0

JSON = dict[str, Any]


class Refused(Exception):
    """A plugin's error object."""

    def __init__(self, answer: JSON) -> None:
        super().__init__(f"{answer['code']}: {answer['msg']}: {answer.get('details', '')}")
        self.code = answer["code"]


class Site:
    """`data` is where our plugin keeps leases; `bin` has it alone, `path` Debian's plugins as well."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.data, self.bin, self.socket = directory / "data", directory / "bin", directory / "socket"
        self.node = namespaces.RUN_DIRECTORY / f"{PREFIX}-node"
        self.service: subprocess.Popen[bytes] | None = None
        namespaces.create(self.node, _furnish)
        install(self.bin, str(self.socket))
        self.path = f"{self.bin}:{PLUGINS}"

    def start_service(self) -> None:
        command = [sys.executable, "-m", "twinstack.cli.main", "cni", "serve", f"--socket={self.socket}"]
        with (self.directory / "service.log").open("ab") as log:
            self.service = subprocess.Popen(["nsenter", f"--net={self.node}", *command], stdout=log, stderr=log)
        until = time.monotonic() + PATIENCE
        while not self.socket.exists():
            assert time.monotonic() < until, (self.directory / "service.log").read_text()
            time.sleep(0.01)

    def stop_service(self) -> None:
        if self.service is not None:
            self.service.kill()
            self.service.wait()
            self.service = None
            self.socket.unlink(missing_ok=True)  # so that the next one can be waited for

    def close(self) -> None:
        self.stop_service()
        for name in os.listdir(namespaces.RUN_DIRECTORY):
            if name.startswith(PREFIX):
                namespaces.remove(namespaces.RUN_DIRECTORY / name)

    def container(self, name: str) -> Path:
        path = namespaces.RUN_DIRECTORY / f"{PREFIX}-{name}"
        namespaces.create(path, lambda: None)
        return path

    def configuration(self, *subnets: str, name: str = "pods", **fields: Any) -> JSON:
        """Of our plugin, with a range a family."""
        ipam = {
            "type": "twinstack-cni",
            "dataDir": str(self.data),
            "ranges": [[{"subnet": subnet}] for subnet in subnets],
        }
        return {"cniVersion": "1.0.0", "name": name, "type": "twinstack-cni", "ipam": ipam} | fields

    def call(self, command: str, config: JSON, name: str = "", namespace: str | None = None, **more: str) -> JSON:
        """Run the plugin that the configuration names as a runtime does; its result. Raises Refused."""
        process = self.begin(command, config, name, namespace, **more)
        out, err = process.communicate(json.dumps(config).encode(), timeout=PATIENCE)
        answer: JSON = json.loads(out) if out.strip() else {}
        if process.returncode:
            assert answer, err
            raise Refused(answer)
        return answer

    def begin(
        self, command: str, config: JSON, name: str = "", namespace: str | None = None, **more: str
    ) -> subprocess.Popen[bytes]:
        path = namespaces.RUN_DIRECTORY / f"{PREFIX}-{name}" if name else ""
        call = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": name,
            "CNI_NETNS": str(path) if namespace is None else namespace,
            "CNI_IFNAME": "eth0" if name else "",
            "CNI_PATH": self.path,
        }
        executable = next(p for d in self.path.split(":") if (p := Path(d, config["type"])).exists())
        return subprocess.Popen(
            ["nsenter", f"--net={self.node}", str(executable)],
            env={"PATH": os.environ["PATH"]} | call | more,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def leases(self, network: str = "pods") -> list[str]:
        directory = self.data / network
        return sorted(n for n in os.listdir(directory) if ":" in n) if directory.is_dir() else []

    def links(self) -> list[str]:
        """The node's links to containers."""

        def look() -> list[str]:
            route = netlink.NetlinkSocket(netlink.ROUTE)
            try:
                rows = [links.read_link(reply) for reply in route.dump(*links.link_list())]
            finally:
                route.close()
            return [row.name for row in rows if row.name.startswith(("tc", "veth"))]

        return namespaces.inside(self.node, look)


def _furnish() -> None:
    """The node's addresses are on its loopback: nothing lies beyond."""
    sysctl.write({"net/ipv6/conf/default/accept_dad": "0"})
    route = netlink.NetlinkSocket(netlink.ROUTE)
    parsed = [Address.parse(text) for text in NODE_IPS]
    route.request([links.link_up(1), *(links.add_address(1, ip, ip.family.bits) for ip in parsed)])
    settle(route, parsed)
    route.close()


def addresses(result: JSON) -> list[Address]:
    return [Address.parse(ip["address"].partition("/")[0]) for ip in result["ips"]]


@contextmanager
def serving(path: Path, family: IPFamily, port: int = 80) -> Iterator[list[str]]:
    """A TCP server on all addresses of a family in a namespace; gives the addresses of its clients."""
    seen: list[str] = []
    everywhere = "::" if family is IPFamily.IPV6 else "0.0.0.0"
    server = namespaces.inside(path, lambda: socket.create_server((everywhere, port), family=family.af))

    def run() -> None:
        while True:
            try:
                connection, peer = server.accept()
            except OSError:
                return
            seen.append(peer[0])
            connection.sendall(b"hello")
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield seen
    finally:
        server.shutdown(socket.SHUT_RDWR)  # ends accept
        thread.join()
        server.close()


def fetch(path: Path, address: Address | str, port: int = 80) -> bytes:
    def call() -> bytes:
        with socket.create_connection((str(address), port), timeout=30) as connection:
            return connection.recv(100)

    return namespaces.inside(path, call)
