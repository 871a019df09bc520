"""Bad input to `up`: one line that says what and what to do, exit code not 0, and nothing left."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.e2e.cluster import BIN, Cluster, host_network

NAME = f"tt-o-bad-{os.getpid()}"
TWINSTACK = str(BIN / "twinstack")
UP = [TWINSTACK, "up", "--name", NAME]


def traces(home: Path) -> list[str]:
    """What a failed `up` must not leave: files, sockets, namespaces."""
    namespaces = Path("/run/netns")
    pinned = [path.name for path in namespaces.iterdir()] if namespaces.is_dir() else []
    found = [name for name in pinned if name.startswith(f"{NAME}-")]
    found += [str(path) for path in (home, Path(f"/run/twinstack/{NAME}")) if path.exists()]
    return found


def refused(command: list[str], home: Path, code: int = 1) -> str:
    """The one line that a refused command prints."""
    before = host_network()
    environment = {**os.environ, "TWINSTACK_HOME": str(home)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert host_network() == before
    return done.stderr


@pytest.mark.parametrize(
    ("flags", "what", "advice"),
    [
        (["--service-cidr", "10.244.0.0/20"], "overlaps --pod-cidr 10.244.0.0/16", "choose blocks that are apart"),
        (["--pod-cidr", "172.30.0.0/16"], "overlaps the network of the nodes", "choose blocks that are apart"),
        (["--service-cidr", "10.1.0.0/16,10.2.0.0/16"], "must be of different families", "write one block, or one a"),
        (["--service-cidr", "10.1.2.3/16"], "10.1.2.3/16 has bits set behind its prefix", "write 10.1.0.0/16"),
        (["--pod-cidr", "fd00:1::1/56"], "fd00:1::1/56 has bits set behind its prefix", "write fd00:1::/56"),
        (["--service-cidr", "10.1.0.0/29"], "10.1.0.0/29 is too small", "use /28 or larger"),
        (["--service-cidr", "fd00:1::/48"], "fd00:1::/48 is too large", "use /64 or a smaller block"),
        (["--pod-cidr", "10.1.0.0/24"], "has no room for 2 nodes of a /24 each", "use /23 or a larger block"),
        (["--service-cidr", "ten"], "not an IP address: 'ten'", "write one block, or one a family"),
        (["--service-cidr", "10.1.0.0/16", "--pod-cidr", "fd00::/56"], "Services are of IPv4 and pods of", "the same"),
        (["--ip-family", "ipv6", "--service-cidr", "10.1.0.0/16"], "contradicts", "leave --ip-family out"),
        (["--nodes", "0"], "--nodes 0", "1 to 100 nodes"),
        (["--api-port", "70000"], "--api-port 70000", "a number from 1 to 65535"),
        (["--name", "No_Name"], "--name 'No_Name' is not a cluster name", "lower-case letters"),
        (["--name", "bin"], "--name bin is where", "choose another name"),
        (["--config", "/nowhere"], "--config /nowhere: No such file", "give the path of a file"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, flags: list[str], what: str, advice: str) -> None:
    said = refused([*UP, *flags], tmp_path / "home")
    assert what in said
    assert advice in said
    assert traces(tmp_path / "home") == []


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--node", "3"], "unrecognized arguments: --node 3, did you mean --nodes?"),
        (["--nodes", "many"], "argument --nodes: invalid int value: 'many'"),
        (["--ip-family", "ipv5"], "invalid choice: 'ipv5'"),
        (["--wait", "long"], "'long' is not a time such as 60s"),
    ],
)
def test_flags_that_are_none(tmp_path: Path, flags: list[str], words: str) -> None:
    said = refused([*UP, *flags], tmp_path / "home", code=2)
    assert words in said
    assert "`twinstack up --help` lists the flags" in said
    assert traces(tmp_path / "home") == []


def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        said = refused([*UP, "--api-port", str(port)], tmp_path / "home")
    assert f"--api-port {port} is in use; choose another one, or leave the flag out" in said
    assert traces(tmp_path / "home") == []


# The checkout may lie where only root may look.
READS_ALL = ("--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search")


def test_without_root(tmp_path: Path) -> None:
    other = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", *READS_ALL, "--"]
    said = refused([*other, *UP], tmp_path / "home")
    assert "need root; run the same command again with sudo" in said
    assert traces(tmp_path / "home") == []


@pytest.mark.parametrize("capability", ["net_admin", "sys_admin"])
def test_root_without_a_capability(tmp_path: Path, capability: str) -> None:
    less = ["setpriv", "--bounding-set", f"-{capability}", "--inh-caps", f"-{capability}", "--"]
    said = refused([*less, *UP], tmp_path / "home")
    assert f"this is root without CAP_{capability.upper()}" in said
    assert "`--privileged`" in said
    assert traces(tmp_path / "home") == []


@pytest.mark.parametrize(
    ("mount", "words"),
    [
        ("size=64k", "has 0 MiB free and a cluster needs 32 MiB; free some space, or let TWINSTACK_HOME name"),
        ("size=64m,nr_inodes=9", "more files; free some space, or let TWINSTACK_HOME name"),
        ("ro", "ead-only file system; make it writable, or let TWINSTACK_HOME name a directory elsewhere"),
    ],
)
def test_a_state_directory_that_is_full_or_read_only(tmp_path: Path, mount: str, words: str) -> None:
    there = tmp_path / "small"
    there.mkdir()
    script = f'mount -t tmpfs -o {mount} tmpfs {there} && "$@"; code=$?; ls -A {there}; exit $code'
    inside = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", *UP]
    assert words in refused(inside, there / "home")
    assert traces(there / "home") == []


def test_a_state_directory_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "let TWINSTACK_HOME name a directory elsewhere" in refused(UP, tmp_path / "file")
    assert "let TWINSTACK_HOME name a directory elsewhere" in refused(UP, tmp_path / "file" / "below")
    mine = tmp_path / "home" / NAME
    mine.mkdir(parents=True)
    (mine / "thesis.txt").write_text("years of work")
    assert "is there and no cluster's" in refused(UP, tmp_path / "home")
    assert "is left alone" in refused([TWINSTACK, "down", "--name", NAME], tmp_path / "home")
    environment = {**os.environ, "TWINSTACK_HOME": str(tmp_path / "home")}
    done = subprocess.run([TWINSTACK, "down", "--all"], env=environment, capture_output=True, text=True, check=True)
    assert "There is no cluster." in done.stdout
    assert (mine / "thesis.txt").read_text() == "years of work"


def test_a_disk_that_fills_while_files_are_laid_leaves_nothing(tmp_path: Path) -> None:
    """A limit refuses to write files beyond a size, as a disk without room does, once it has come so far."""
    limited = ["prlimit", "--fsize=100", "--", *UP]
    environment = {**os.environ, "TWINSTACK_HOME": str(tmp_path / "home")}
    done = subprocess.run(limited, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "File too large; raise the limit on the size of files" in done.stderr
    assert traces(tmp_path / "home") == []


def test_a_name_that_is_taken(new_cluster: Callable[[str], Cluster], tmp_path: Path) -> None:
    cluster = new_cluster("taken")
    cluster.up("--nodes", "1")
    up = [TWINSTACK, "up", "--name", cluster.name]
    said = refused([*up, "--ip-family", "ipv6"], cluster.home)
    assert "exists (dual-stack, IPv4 first) and cannot become one with Services in fd00:10:96::/112" in said
    assert f"remove it first with `twinstack down --name {cluster.name}`, or give another --name" in said
    said = refused(up, tmp_path / "elsewhere")
    assert f"a cluster {cluster.name} with its state in {cluster.paths.root} exists on this machine" in said
    assert not (tmp_path / "elsewhere").exists()
    assert cluster.status()["healthy"]
