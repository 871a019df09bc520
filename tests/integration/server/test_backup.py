"""A backup of a server that is writing, and a server that goes on from it."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.server_process import HOST, JSON, TOKEN, Client, Server

from twinstack.store.backups import REVISIONS_AHEAD

CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
SERVICES = "/api/v1/namespaces/default/services"


def command(*words: str | Path) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "twinstack.cli.main", "server", *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)


def kubeconfig(server: Server) -> Path:
    """In the server's directory."""
    cluster = {"server": f"https://{HOST}:{server.port}", "certificate-authority": str(server.certificate)}
    config = {
        "current-context": "x",
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
        "clusters": [{"name": "x", "cluster": cluster}],
        "users": [{"name": "x", "user": {"token": TOKEN}}],
    }
    path = server.directory / "kubeconfig"
    path.write_text(json.dumps(config))
    return path


def store(server: Server) -> Path:
    return server.directory / "state.db"


def create(client: Client, number: int) -> JSON:
    code, made = client.call("POST", CONFIG_MAPS, {"metadata": {"name": f"c{number}"}, "data": {"a": "x" * 5000}})
    assert code == 201
    return made


def version(obj: JSON) -> int:
    return int(obj["metadata"]["resourceVersion"])


def names(server: Server) -> set[str]:
    return {item["metadata"]["name"] for item in server.json(CONFIG_MAPS)["items"]}


def test_a_server_goes_on_from_a_backup(tmp_path: Path) -> None:
    server, backup = Server(tmp_path), tmp_path / "a.backup"
    with server.running() as process, server.client() as client:
        before = {f"c{number}" for number in range(50)}
        for number in range(50):
            create(client, number)
        code, _ = client.call("DELETE", f"{CONFIG_MAPS}/c0")
        assert code == 200
        ended = threading.Event()
        writing = threading.Thread(target=keep_writing, args=[server, ended])
        writing.start()
        try:
            done = command("backup", backup, "--kubeconfig", kubeconfig(server))
        finally:
            ended.set()
            writing.join(30)
        assert (done.returncode, done.stderr) == (0, "")
        assert "records up to revision" in done.stdout
        assert stat.S_IMODE(backup.stat().st_mode) == 0o600
        later = version(create(client, 1_000_000))
        live = command("restore", backup, "--sqlite", store(server))
        assert live.returncode == 1
        assert "is in use: stop its server first" in live.stderr
        assert names(server) >= {"c1000000"}
        process.terminate()
        assert process.wait(20) == 0
    check_restored(server, backup, before - {"c0"}, later)
    assert "Traceback" not in server.log()


def keep_writing(server: Server, ended: threading.Event) -> None:
    with server.client() as client:
        for number in range(1000, 1_000_000):
            if ended.is_set():
                return
            create(client, number)


def check_restored(server: Server, backup: Path, before: set[str], later: int) -> None:
    """`later`: a revision that clients had seen before the restored server began."""
    done = command("restore", backup, "--sqlite", store(server))
    assert (done.returncode, done.stderr) == (0, "")
    (replaced,) = server.directory.glob("state.db.2*")
    assert str(replaced) in done.stdout
    assert {path.name for path in server.directory.glob("state.db*")} == {"state.db", replaced.name}
    assert stat.S_IMODE(store(server).stat().st_mode) == 0o600
    with server.running(), server.client() as client:
        found = names(server)
        assert before <= found
        assert "c0" not in found
        assert "c1000000" not in found
        listed = server.json(CONFIG_MAPS)
        assert version(listed) > REVISIONS_AHEAD
        assert version(listed) > later, "what clients know is older"
        with server.client() as watching:
            (event,) = watching.lines(f"{CONFIG_MAPS}?watch=1&resourceVersion={later}&timeoutSeconds=10")
            assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 410, "Expired")
        code, changed = client.call("PATCH", f"{CONFIG_MAPS}/c1", {"data": {"b": "c"}}, "application/merge-patch+json")
        assert code == 200
        assert version(changed) > version(listed)
        code, _ = client.call("PUT", f"{CONFIG_MAPS}/c2", {"metadata": {"name": "c2", "resourceVersion": str(later)}})
        assert code == 409, "a version of the time that is gone is no version"
        spec = {"ports": [{"port": 80}]}
        code, made = client.call("POST", SERVICES, {"metadata": {"name": "s"}, "spec": spec})
        assert code == 201
        assert made["spec"]["clusterIPs"]


DAMAGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "cut": (lambda data: data[: len(data) // 2], "is "),
    "overwritten": (lambda data: data[:4096] + b"\xff" * 4096 + data[8192:], "is damaged"),
    "garbage": (lambda data: os.urandom(8192), "is no backup: file is not a database"),
    "empty": (lambda data: b"", "is empty"),
}


@pytest.fixture(scope="module")
def backup(tmp_path_factory: pytest.TempPathFactory) -> Path:
    server = Server(tmp_path_factory.mktemp("server"))
    with server.running(), server.client() as client:
        for number in range(20):
            create(client, number)
        made = server.directory / "good.backup"
        assert command("backup", made, "--kubeconfig", kubeconfig(server)).returncode == 0
    return made


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_backup_is_refused(tmp_path: Path, backup: Path, name: str) -> None:
    damage, words = DAMAGES[name]
    bad, target = tmp_path / "bad.backup", tmp_path / "state.db"
    bad.write_bytes(damage(backup.read_bytes()))
    target.write_bytes(b"what was there")
    done = command("restore", bad, "--sqlite", target)
    assert done.returncode == 1
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert target.read_bytes() == b"what was there"
    assert {path.name for path in tmp_path.iterdir()} == {"bad.backup", "state.db"}


def test_a_backup_takes_the_place_of_a_damaged_store(tmp_path: Path, backup: Path) -> None:
    server = Server(tmp_path)
    store(server).write_bytes(os.urandom(8192))
    assert command("restore", backup, "--sqlite", store(server)).returncode == 0
    with server.running():
        assert len(names(server) - {"kube-root-ca.crt"}) == 20


def test_a_newer_backup_and_a_servers_own_file_are_no_backups(tmp_path: Path, backup: Path) -> None:
    other = tmp_path / "other.backup"
    other.write_bytes(backup.read_bytes())
    connection = sqlite3.connect(other)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    done = command("restore", other, "--sqlite", tmp_path / "state.db")
    assert "has format 99" in done.stderr
    other.write_bytes(backup.read_bytes())
    (tmp_path / "other.backup-wal").write_bytes(b"x")
    done = command("restore", other, "--sqlite", tmp_path / "state.db")
    assert "a log beside it" in done.stderr
    assert not (tmp_path / "state.db").exists()


def test_no_backup_is_told_in_a_line(tmp_path: Path) -> None:
    """Without a server, or without the right; and nothing is left."""
    server = Server(tmp_path, "--authorization-mode", "RBAC")
    with (tmp_path / "tokens.csv").open("a") as tokens:
        tokens.write("another,alice,2\n")
    target = tmp_path / "new" / "a.backup"
    target.parent.mkdir()
    with server.running():
        config = kubeconfig(server)
        text = config.read_text()
        config.write_text(text.replace(TOKEN, "wrong"))
        unknown = command("backup", target, "--kubeconfig", config)
        assert "the server refuses: Unauthorized" in unknown.stderr
        config.write_text(text.replace(TOKEN, "another"))
        refused = command("backup", target, "--kubeconfig", config)
        assert 'User "alice" cannot get path "/backup"' in refused.stderr
    absent = command("backup", target, "--kubeconfig", config)
    for done in (unknown, refused, absent):
        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 1
    assert list(target.parent.iterdir()) == []
