"""What commands say: ports, status for people, node-exec's refusals."""

from __future__ import annotations

import argparse
import json
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from twinstack.cluster import node_exec, ports, state, status
from twinstack.cluster.errors import ClusterError
from twinstack.cluster.state import ClusterPaths
from twinstack.cluster.wishes import Wishes, configure


def test_a_port_in_use_is_passed_over_and_refused_when_asked_for() -> None:
    first = ports.choose(None, ())
    assert ports.choose(None, {first}) > first
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(ClusterError, match=f"--api-port {port} is in use"):
            ports.choose(port, ())
    assert ports.choose(port, ()) == port
    with pytest.raises(ClusterError, match="is in use"):
        ports.choose(port, {port})
    with pytest.raises(ClusterError, match="from 1 to 65535"):
        ports.choose(0, ())


def report(**changes: Any) -> dict[str, Any]:
    part = {
        "name": "server",
        "state": "running",
        "pid": 7,
        "since": time.time() - 75,
        "restarts": 2,
        "lastExit": "exit code 1",
        "pssKiB": 30_000,
    }
    node = {"name": "demo-1", "ready": True, "addresses": ["172.30.0.11", "fd00:30::11"], "podCIDRs": ["10.244.0.0/24"]}
    plain = configure(Wishes(name="demo"), 6443).to_json()
    made = {**plain, "server": "https://127.0.0.1:6443", "supervisor": True, "apiError": "", "parts": [part]}
    made["configuration"] = {"state": "done", "message": "", "changing": []}
    return {**made, "nodes": [node], **changes}


def test_status_for_people() -> None:
    lines = status.as_text(report()).splitlines()
    assert lines[1] == "API server https://127.0.0.1:6443: answers"
    assert lines[3].split() == ["PART", "STATE", "PID", "SINCE", "MEMORY", "RESTARTS", "LAST", "EXIT"]
    assert lines[4].split() == ["server", "running", "7", "1m15s", "29", "MiB", "2", "exit", "code", "1"]
    assert lines[-1].split() == ["demo-1", "yes", "172.30.0.11,", "fd00:30::11", "10.244.0.0/24"]


def test_status_tells_of_a_configuration_that_was_refused_or_rolls() -> None:
    refused = {"state": "refused", "message": "no", "changing": []}
    assert "Configuration: refused: no" in status.as_text(report(configuration=refused)).splitlines()
    rolling = {"state": "rolling", "message": "", "changing": ["server", "node-1"]}
    line = "Configuration: rolling (to be replaced: server, node-1)"
    assert line in status.as_text(report(configuration=rolling)).splitlines()


def test_status_without_a_supervisor_says_how_to_get_one() -> None:
    text = status.as_text(report(supervisor=False, parts=[], apiError="refused"))
    assert "Nothing watches over its parts: `twinstack up --name demo` starts them." in text
    assert "API server https://127.0.0.1:6443: refused" in text


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ClusterPaths:
    monkeypatch.setenv("TWINSTACK_HOME", str(tmp_path))
    paths = state.paths("demo")
    paths.root.mkdir()
    paths.configuration.write_text(json.dumps(configure(Wishes(name="demo"), 6443).to_json()))
    return paths


@pytest.mark.parametrize(
    ("node", "words", "message"),
    [
        ("demo-9", ["--", "true"], "no node 'demo-9' in cluster demo; its nodes: demo-1, demo-2"),
        ("demo-1", [], "no command to run"),
        ("2", ["--", "true"], "node 2 is not there"),
    ],
)
@pytest.mark.usefixtures("demo")
def test_node_exec_refuses_with_advice(node: str, words: list[str], message: str) -> None:
    with pytest.raises(ClusterError, match=message):
        node_exec.run(argparse.Namespace(name="demo", node=node, command=words))


def test_damaged_and_missing_configurations_are_explained(demo: ClusterPaths) -> None:
    assert state.clusters() == ["demo"]
    demo.configuration.write_text("{}")
    with pytest.raises(ClusterError, match="is damaged"):
        demo.load()
    demo.configuration.unlink()
    with pytest.raises(ClusterError, match="`twinstack up --name demo` starts it"):
        demo.required()
