"""Which configuration of a directory counts, and what plugins of a list are told."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from twinstack.node.cni import chain, lists
from twinstack.node.cni.errors import CniError
from twinstack.node.cni.invocation import Invocation

CALL = Invocation("ADD", "c", "/run/netns/c", "eth0", {"K8S_POD_NAME": "web"})
PLUGIN = """#!/usr/bin/python3 -IS
import os, sys
here = os.path.dirname(__file__)
said = sys.stdin.read()
with open(here + "/log", "a") as log:
    log.write(os.environ["CNI_COMMAND"] + " " + said + "\\n")
if os.path.exists(here + "/" + os.environ["CNI_COMMAND"]):
    print('{"cniVersion": "1.0.0", "code": 7, "msg": "no", "details": "not now"}')
    sys.exit(1)
if os.environ["CNI_COMMAND"] == "ADD":
    print('{"cniVersion": "1.0.0", "ips": [{"address": "10.0.0.1/24"}]}')
"""


def test_the_first_readable_one_counts(tmp_path: Path) -> None:
    assert lists.first(tmp_path / "none") is None
    assert lists.signature(tmp_path / "none") == ()
    files = {
        "00-note.txt": {"name": "no", "type": "no"},
        "01-broken.conf": {"cniVersion": "1.0.0"},
        "02-old.conf": {"cniVersion": "9.0.0", "name": "old", "type": "x"},
        "10-lone.conf": {"cniVersion": "0.3.1", "name": "lone", "type": "bridge"},
        "20-list.conflist": {"cniVersion": "1.0.0", "name": "list", "plugins": [{"type": "a"}, {"type": "b"}]},
    }
    for name, data in files.items():
        (tmp_path / name).write_text(json.dumps(data))
    (tmp_path / "00-no.json").write_text("{")
    found = lists.first(tmp_path)
    assert found is not None
    assert (found.name, [plugin["type"] for plugin in found.plugins]) == ("lone", ["bridge"])
    before = lists.signature(tmp_path)
    os.unlink(tmp_path / "10-lone.conf")
    assert lists.signature(tmp_path) != before
    found = lists.first(tmp_path)
    assert found is not None
    assert (found.name, found.version) == ("list", "1.0.0")


@pytest.mark.parametrize(
    ("fields", "version"),
    [
        ({}, "0.1.0"),
        ({"cniVersion": "1.0.0", "cniVersions": ["0.4.0", "1.1.0", "2.0.0"]}, "1.1.0"),
        ({"cniVersion": "7.0.0", "cniVersions": ["0.4.0"]}, "0.4.0"),
    ],
)
def test_the_latest_version_that_both_speak(fields: dict[str, Any], version: str) -> None:
    assert lists.parse({"name": "n", "type": "t"} | fields).version == version


@pytest.mark.parametrize(
    "wrong",
    [{"plugins": []}, {"plugins": [{"x": 1}]}, {"plugins": "x"}, {"name": "", "type": "x"}, {"type": 5}],
)
def test_no_configurations(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"no |a plugin"):
        lists.parse({"name": "n", "cniVersion": "1.0.0"} | wrong)


def network(path: Path, version: str = "1.1.0", **fields: Any) -> tuple[lists.NetworkList, Invocation]:
    for name in ("a", "b"):
        (path / name).write_text(PLUGIN)
        (path / name).chmod(0o755)
    plugins = [{"type": "a", "capabilities": {"portMappings": True, "mac": False}}, {"type": "b"}]
    data = {"name": "n", "cniVersion": version, "plugins": plugins} | fields
    return lists.parse(data), CALL._replace(path=("/nowhere", str(path)))


def said(path: Path) -> list[tuple[str, dict[str, Any]]]:
    lines = (path / "log").read_text().splitlines() if (path / "log").exists() else []
    (path / "log").unlink(missing_ok=True)
    return [(line.split(" ")[0], json.loads(line.partition(" ")[2])) for line in lines]


def test_plugins_run_in_order_and_back(tmp_path: Path) -> None:
    of, call = network(tmp_path)
    told = {"portMappings": [], "mac": "x", "ipRanges": []}
    result = chain.add(of, call, told)
    assert result["ips"] == [{"address": "10.0.0.1/24"}]
    first, second = (config for _, config in said(tmp_path))
    assert (first["type"], first["name"], first["cniVersion"]) == ("a", "n", "1.1.0")
    assert first["runtimeConfig"] == {"portMappings": []}
    assert "runtimeConfig" not in second
    assert "prevResult" not in first
    assert second["prevResult"] == result
    chain.check(of, call, told, result)
    chain.delete(of, call, told, result)
    chain.status(of, call.path)
    chain.collect(of, call.path, [call])
    calls = said(tmp_path)
    assert [f"{command} {config['type']}" for command, config in calls] == (
        ["CHECK a", "CHECK b", "DEL b", "DEL a", "STATUS a", "STATUS b", "GC a", "GC b"]
    )
    assert all(config["prevResult"] == result for command, config in calls if command in ("CHECK", "DEL"))
    assert calls[-1][1]["cni.dev/valid-attachments"] == [{"containerID": "c", "ifname": "eth0"}]


def test_older_versions_are_asked_for_less(tmp_path: Path) -> None:
    of, call = network(tmp_path, "0.3.1")
    result = chain.add(of, call, {})
    said(tmp_path)
    chain.check(of, call, {}, result)
    chain.status(of, call.path)
    chain.collect(of, call.path, [])
    assert said(tmp_path) == []
    chain.delete(of, call, {}, result)
    assert all("prevResult" not in config for _, config in said(tmp_path))
    of, call = network(tmp_path, "1.1.0", disableCheck="true", disableGC=True)
    chain.check(of, call, {}, result)
    chain.collect(of, call.path, [])
    assert said(tmp_path) == []


def test_failures_name_the_plugin(tmp_path: Path) -> None:
    of, call = network(tmp_path)
    (tmp_path / "ADD").touch()
    with pytest.raises(CniError, match=r'plugin type="a" failed \(add\): no: not now') as caught:
        chain.add(of, call, {})
    assert caught.value.code == 7
    with pytest.raises(CniError, match=r'failed to find plugin "a" in path \[/nowhere\]'):
        chain.add(of, call._replace(path=("/nowhere",)), {})
    (tmp_path / "b").write_text("#!/bin/sh\ncat >/dev/null; echo broken >&2; exit 3\n")
    (tmp_path / "ADD").unlink()
    with pytest.raises(CniError, match=r'type="b" failed \(add\): plugin b failed with exit code 3: broken'):
        chain.add(of, call, {})
    (tmp_path / "b").write_text("#!/bin/sh\ncat >/dev/null; echo 5\n")
    with pytest.raises(CniError, match="answered what is no result"):
        chain.add(of, call, {})
    (tmp_path / "b").chmod(0o644)
    with pytest.raises(CniError, match="could not run plugin b"):
        chain.add(of, call, {})
