"""Sweeping removes what belongs to a cluster, and nothing else: not even through a mount."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path

import pytest

from twinstack.cluster import removal
from twinstack.cluster.state import ClusterPaths
from twinstack.linux import mounts, namespaces, processes


@pytest.fixture
def paths(tmp_path: Path) -> ClusterPaths:
    made = ClusterPaths(f"tt-h-{os.getpid()}", tmp_path / "home" / "cluster")
    made.root.mkdir(parents=True)
    made.run.mkdir(parents=True)
    return made


def sleep(namespace: Path | None = None, *words: str) -> subprocess.Popen[bytes]:
    """A process with a child, once it is where it belongs."""
    command = ["sh", "-c", "echo; sleep 300 >&-; :", *words]
    command = ["nsenter", f"--net={namespace}", *command] if namespace else command
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout as said:
        assert said.readline() == b"\n"
    return process


def end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(5)


def test_sweep(paths: ClusterPaths, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("kept")
    shown = paths.root / "nodes" / "1" / "mnt"
    shown.mkdir(parents=True)
    stranger = Path("/run/netns") / f"{paths.name}x-1"
    namespaces.create(paths.node(1), lambda: None)
    namespaces.create(stranger, lambda: None)
    mounts.bind(str(precious), str(shown))
    inside = [sleep(paths.node(1)), sleep(None, "part", f"{paths.kubeconfigs}/node-1.json")]
    outside = [sleep(stranger), sleep(None, "reader", str(paths.kubeconfig))]
    try:
        removal.sweep(paths)
        assert [process.wait(5) for process in inside] == [-9, -9]
        assert [process.poll() for process in outside] == [None, None]
        assert not paths.root.exists()
        assert not paths.run.exists()
        assert paths.namespaces() == []
        assert mounts.mounted(str(paths.root)) == []
        assert (precious / "file").read_text() == "kept"
        assert stranger.exists()
        removal.sweep(paths)
    finally:
        for process in (*inside, *outside):
            end(process)
        namespaces.remove(stranger)


def test_processes_of_a_namespace_are_found_with_their_children(paths: ClusterPaths) -> None:
    namespaces.create(paths.node(1), lambda: None)
    process = sleep(paths.node(1))
    try:
        assert processes.identify(process.pid) in list(removal.cluster_processes(paths))
    finally:
        removal.sweep(paths)
        end(process)
