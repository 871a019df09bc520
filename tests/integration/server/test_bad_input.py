"""What a server cannot start with: one line that says what and what to do, exit code 1 or 2, and nothing left."""

from __future__ import annotations

import http.client
import os
import resource
import socket
import sqlite3
import subprocess
from pathlib import Path

import pytest
from tests.server_process import HOST, JSON, Client, Server

CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"


def started(server: Server) -> str:
    """Start what cannot start; returns the one line that it says."""
    before = contents(server.directory)
    done = subprocess.run(server.command(), capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode in (1, 2)
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stdout == ""
    assert contents(server.directory) == before, "nothing is left, nothing is changed"
    return done.stderr


def contents(directory: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path)


RANGE = "--service-cluster-ip-range"


@pytest.mark.parametrize(
    ("flags", "what", "to_do"),
    [
        ((RANGE, "10.96.0.0/16,10.97.0.0/16"), "must be of different IP family", "one a family"),
        ((RANGE, "10.96.0.0/16,10.96.128.0/17"), "must be of different IP family", "one a family"),
        ((RANGE, "fd00::/112,fd01::/112"), "must be of different IP family", "one a family"),
        ((RANGE, "10.96.0.0/16,fd00::/112,10.0.0.0/8"), "not contain more than two entries", "one a family"),
        ((RANGE, "10.96.0.0/30"), "at least 8 IP addresses", "choose a shorter prefix"),
        ((RANGE, "10.96.0.0/16,fd00::/127"), "at least 8 IP addresses", "choose a shorter prefix"),
        ((RANGE, "10.96.0.0/16,fd00::/48"), "shortest allowed prefix length", "choose a longer prefix"),
        ((RANGE, "10.96.0.0"), "not a valid cidr: '10.96.0.0'", "as 10.96.0.0/16"),
        (("--secure-port", "0"), "must be between 1 and 65535", ""),
        (("--secure-port", "https"), "invalid int value: 'https'", "--help"),
        (("--service-node-port-range", "1-99999"), "cannot be greater than 65535", ""),
        (("--bind-address", "nowhere"), "not an IP address", ""),
        (("--bind-address", "203.0.113.77"), "Cannot assign requested address", "choose a --bind-address"),
        (("--advertise-address", "fd00::1"), 'must match public address family "6"', ""),
        (("--network-namespace", "/nonexistent", "--advertise-address", "172.30.0.1"), "/nonexistent: No such", ""),
        (("--token-auth-file", "/nonexistent"), "/nonexistent: No such file", ""),
        (("--client-ca-file", "/nonexistent"), "client CA /nonexistent", ""),
        (("--secure-prot", "1"), "unrecognized arguments: --secure-prot", "did you mean --secure-port?"),
        (("--sqlite", "/nonexistent/state.db"), "/nonexistent/state.db: No such file", "make its directory"),
        (("--sqlite", "/"), "the store /:", "name a file"),
    ],
)
def test_flags(server: Server, flags: tuple[str, ...], what: str, to_do: str) -> None:
    server.flags = flags
    line = started(server)
    assert what in line
    assert to_do in line


def test_host_bits_are_masked(server: Server) -> None:
    server.flags = (RANGE, "10.96.7.7/16,fd00:96::7/112")
    with server.running():
        cidr = server.json("/apis/networking.k8s.io/v1/servicecidrs/kubernetes")
        assert cidr["spec"]["cidrs"] == ["10.96.0.0/16", "fd00:96::/112"]


def test_a_port_in_use(server: Server) -> None:
    with socket.create_server((HOST, server.port)):
        line = started(server)
    assert f"listen on {HOST}:{server.port}: Address already in use" in line
    assert "choose another --secure-port" in line


def test_a_store_that_another_server_has_open(server: Server, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    second = Server(tmp_path / "second", "--sqlite", str(tmp_path / "state.db"))
    with server.running():
        line = started(second)
    assert "state.db: database is locked: stop the process that has it open" in line


@pytest.mark.parametrize(
    ("make", "what", "to_do"),
    [
        (lambda path: path.write_bytes(os.urandom(8192)), "file is not a database", "twinstack server restore"),
        (lambda path: path.write_bytes(b"SQLite format 3\0" + bytes(4080)), "", "twinstack server restore"),
        (lambda path: foreign(path, "PRAGMA user_version = 9"), "has format 9", "use the version that wrote it"),
        (lambda path: foreign(path, "CREATE TABLE songs (title)"), "of another program", "name another file"),
        (lambda path: path.mkdir(), "unable to open", "name a file"),
    ],
)
def test_a_file_that_is_no_store(server: Server, make: object, what: str, to_do: str) -> None:
    assert callable(make)
    make(server.directory / "state.db")
    line = started(server)
    assert what in line
    assert to_do in line


def foreign(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.commit()
    connection.close()


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: data[:4096] + b"\xff" * 8192])
def test_a_damaged_store(server: Server, damage: object) -> None:
    path = server.directory / "state.db"
    with server.running() as process, server.client() as client:
        for number in range(20):
            create(client, f"large-{number}", 10_000)
        process.terminate()
        assert process.wait(10) == 0
    assert callable(damage)
    path.write_bytes(damage(path.read_bytes()))
    server.directory.joinpath("log").unlink()
    line = started(server)
    assert "move it away to begin with an empty one" in line


def create(client: Client, name: str, size: int) -> tuple[int, JSON]:
    return client.call("POST", CONFIG_MAPS, {"metadata": {"name": name}, "data": {"text": "x" * size}})


# Directories that are full or not to be written: file systems of the server's own -----------------------------------

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def mounted(directory: Path, options: str) -> list[str]:
    """Runs a command with a fresh file system on `directory` that nobody else sees and that ends with it."""
    directory.mkdir()
    script = f'mount -t tmpfs -o {options} twinstack "{directory}" && exec "$@"'
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"]


@needs_root
@pytest.mark.parametrize(
    ("options", "what"),
    [("ro", "Read-only file system"), ("size=4k", "database or disk is full"), ("nr_inodes=1", "No space left")],
)
def test_a_directory_that_takes_nothing(server: Server, options: str, what: str) -> None:
    server.prefix = mounted(server.directory / "small", options)
    server.flags = ("--sqlite", str(server.directory / "small" / "state.db"))
    line = started(server)
    assert f"state.db: {what}" in line
    assert "name a file elsewhere" in line


@needs_root
def test_a_directory_that_fills_up(server: Server) -> None:
    """Writes are refused in the API's form, reads go on, and all is well once there is room."""
    small = server.directory / "small"
    server.prefix = mounted(small, "size=1m")
    server.flags = ("--sqlite", str(small / "state.db"))
    with server.running() as process, server.client() as client:
        stored = []
        for number in range(200):
            code, answer = create(client, f"large-{number}", 20_000)
            if code != 201:
                break
            stored.append(f"large-{number}")
        assert (code, answer["kind"], answer["reason"]) == (500, "Status", "InternalError")
        assert "database or disk is full" in answer["message"]
        assert names(client) == sorted(stored), "what was refused is not there"
        assert health(server) == 500
        with server.client() as watching:
            events = watching.lines(f"{CONFIG_MAPS}?watch=1&resourceVersion={version(client)}&timeoutSeconds=60")
            subprocess.run(
                ["nsenter", "-t", str(process.pid), "-m", "mount", "-o", "remount,size=16m", str(small)], check=True
            )
            assert create(client, "more", 20_000)[0] == 201
            assert next(events)["object"]["metadata"]["name"] == "more", "watches went on"
        assert names(client) == sorted([*stored, "more"])
        assert health(server) == 200
    assert "Traceback" not in server.log()


@needs_root
def test_a_disk_that_fails(server: Server) -> None:
    """No write succeeds for a while, as on a file system that an error has made read-only."""
    with server.running() as process, server.client() as client, server.client() as watching:
        assert create(client, "before", 10)[0] == 201
        events = watching.lines(f"{CONFIG_MAPS}?watch=1&resourceVersion={version(client)}&timeoutSeconds=60")
        limits = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0, limits[1]))
        for number in range(3):
            code, answer = create(client, f"refused-{number}", 10)
            assert (code, answer["kind"], answer["reason"]) == (500, "Status", "InternalError")
            assert "the change was not stored" in answer["message"]
        assert "before" in names(client)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, limits)
        assert create(client, "after", 10)[0] == 201
        assert next(events)["object"]["metadata"]["name"] == "after", "nothing of what was refused is shown"
        assert health(server) == 200
        process.kill()
    with server.running(), server.client() as client:
        found = names(client)
    assert {"before", "after"} <= set(found)
    assert not [name for name in found if name.startswith("refused")]
    assert "Traceback" not in server.log()


def version(client: Client) -> str:
    _, listed = client.call("GET", CONFIG_MAPS)
    return str(listed["metadata"]["resourceVersion"])


def names(client: Client) -> list[str]:
    _, listed = client.call("GET", CONFIG_MAPS)
    return sorted(item["metadata"]["name"] for item in listed["items"])


def health(server: Server) -> int:
    connection = http.client.HTTPSConnection(HOST, server.port, timeout=5, context=server.context())
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status
    finally:
        connection.close()
