"""containerd with our plugin: pods of both families, by the interface that kubelet uses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from tests.integration.node.cni.cri import PAUSE_IMAGE, CallFailed, Runtime, pause_image
from tests.integration.node.cni.site import DEBIAN, PATIENCE, PLUGINS, ROOT, Site, fetch

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

SOAK = os.environ.get("TWINSTACK_TESTS") == "soak"
CONFIGURATION = """
version = 2
root = "{root}"
state = "{state}"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.btrfs"]
[grpc]
address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{image}"
restrict_oom_score_adj = true
disable_cgroup = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{bin}"
conf_dir = "{conf}"
"""
START = """
mount --make-rprivate /
mount -t tmpfs twinstack-test /run
mount -t tmpfs twinstack-test /var/lib
mkdir /run/netns
"$1" cni serve --socket="$2" &
exec containerd --config "$3"
"""


class Containerd:
    """In the network namespace of a node, and a mount namespace of its own: what it leaves in /run goes with it."""

    def __init__(self, site: Site) -> None:
        self.site = site
        directory = site.directory
        self.configurations = directory / "net.d"
        self.configurations.mkdir()
        (site.bin / "loopback").symlink_to(PLUGINS / "loopback")  # containerd runs it for every pod
        self.socket = Path(f"/tmp/tt-C-{os.getpid()}.sock")
        (directory / "config.toml").write_text(
            CONFIGURATION.format(
                root=directory / "root",
                state=directory / "state",
                socket=self.socket,
                image=PAUSE_IMAGE,
                bin=site.bin,
                conf=self.configurations,
            )
        )
        arguments = [str(ROOT / ".venv/bin/twinstack"), str(site.socket), str(directory / "config.toml")]
        self._environment = os.environ | {"PATH": f"{DEBIAN}/usr/bin:{os.environ['PATH']}"}
        with (directory / "containerd.log").open("wb") as log:
            self.process = subprocess.Popen(
                ["nsenter", f"--net={site.node}", "unshare", "-m", "sh", "-ec", START, "sh", *arguments],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.runtime = Runtime(self.socket)

    def start(self) -> None:
        until = time.monotonic() + PATIENCE
        while True:
            with suppress(OSError, CallFailed):
                self.runtime.network_ready()
                break
            assert time.monotonic() < until, self.log()
            assert self.process.poll() is None, self.log()
            time.sleep(0.05)
        image = self.site.directory / "pause.tar"
        image.write_bytes(pause_image())
        command = ["ctr", f"--address={self.socket}", "--namespace=k8s.io", "images", "import", str(image)]
        subprocess.run(command, env=self._environment, check=True, capture_output=True)

    def log(self) -> str:
        return (self.site.directory / "containerd.log").read_text()[-3000:]

    def wait_for_network(self) -> None:
        until = time.monotonic() + PATIENCE
        while not self.runtime.network_ready():
            assert time.monotonic() < until, self.log()
            time.sleep(0.05)

    def close(self) -> None:
        """Kill what lives in its mount namespace, which takes the mounts with it."""
        there = os.stat(f"/proc/{self.process.pid}/ns/mnt").st_ino
        if there != os.stat("/proc/self/ns/mnt").st_ino:
            for name in os.listdir("/proc"):
                if name.isdecimal() and int(name) != self.process.pid:
                    with suppress(OSError):
                        if os.stat(f"/proc/{name}/ns/mnt").st_ino == there:
                            os.kill(int(name), signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        self.socket.unlink(missing_ok=True)
        Path(f"{self.socket}.ttrpc").unlink(missing_ok=True)


@pytest.fixture
def containerd(tmp_path: Path) -> Iterator[Containerd]:
    site = Site(tmp_path)
    try:
        made = Containerd(site)
        try:
            made.start()
            yield made
        finally:
            made.close()
    finally:
        site.close()


def test_pods_of_containerd_have_both_families(containerd: Containerd) -> None:
    site = containerd.site
    assert not containerd.runtime.network_ready()
    own = site.configuration("10.9.0.0/24", "fd00:9::/64", capabilities={"portMappings": True})
    network = {"cniVersion": "1.0.0", "name": own.pop("name"), "plugins": [own]}
    (containerd.configurations / "10-twinstack.conflist").write_text(json.dumps(network))
    containerd.wait_for_network()
    first = containerd.runtime.run_sandbox("a", [(8080, 80)])
    assert containerd.runtime.addresses(first) == ["10.9.0.2", "fd00:9::2"]
    second = containerd.runtime.run_sandbox("b", [])
    assert containerd.runtime.addresses(second) == ["10.9.0.3", "fd00:9::3"]
    assert len(site.links()) == 2
    for text in containerd.runtime.addresses(first):
        with pytest.raises(ConnectionRefusedError):  # by the pod itself, where nobody listens
            fetch(site.node, text)
    rules = subprocess.run(["nsenter", f"--net={site.node}", "nft", "list", "ruleset"], capture_output=True, check=True)
    assert b"8080 : 10.9.0.2 . 80" in rules.stdout
    assert b"8080 : fd00:9::2 . 80" in rules.stdout
    for number in range(100 if SOAK else 3):
        sandbox = containerd.runtime.run_sandbox(f"c{number}", [])
        assert len(containerd.runtime.addresses(sandbox)) == 2
        containerd.runtime.remove_sandbox(sandbox)
    for sandbox in (first, second):
        containerd.runtime.remove_sandbox(sandbox)
    assert site.leases() == site.links() == []
