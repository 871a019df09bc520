"""Volumes in real containers, and how they follow the objects that they show."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import pytest
from tests.integration.node.machine import LOOP, Machine, is_running, waiting_reason
from tests.integration.node.test_probes import shell

from twinstack.api.kinds import CONFIG_MAPS, PODS, SECRETS
from twinstack.node import atomicdirectory
from twinstack.node.projection import Content

LAST = "?tailLines=1"
ALL = "cd /v; for f in *; do echo \"$f $(stat -Lc '%a %u:%g' $f) $(cat $f)\"; done"


def mount(name: str, path: str = "/v", **more: Any) -> dict[str, Any]:
    return {"volumeMounts": [{"name": name, "mountPath": path, **more}]}


def test_objects_as_files(machine: Machine) -> None:
    binary = {"bin": base64.b64encode(b"\xff\x00").decode()}
    machine.put(CONFIG_MAPS, "files", data={"a": "1", "b.txt": "two"}, binaryData=binary)
    machine.put(SECRETS, "files", data={"key": base64.b64encode(b"s3cret").decode()})
    volumes: list[dict[str, Any]] = [
        {"name": "all", "configMap": {"name": "files", "items": [{"key": "a", "path": "x/y"}], "defaultMode": 0o600}},
        {"name": "secret", "secret": {"secretName": "files", "defaultMode": 0o400}},
        {"name": "pod", "downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
    ]
    sources = [{"configMap": {"name": "files"}}, {"secret": {"name": "files", "optional": True}}]
    volumes.append({"name": "several", "projected": {"sources": sources}})
    group = {"fsGroup": 777, "runAsUser": 1000}
    look = "cat /v/x/y; stat -Lc ' %a' /v/x/y; touch /v/x/y"
    machine.create("config", shell(look, **mount("all")), volumes=volumes, restartPolicy="OnFailure")
    machine.create(
        "secret", shell(ALL, **mount("secret")), volumes=volumes, securityContext=group, restartPolicy="Never"
    )
    machine.create("itself", shell(ALL, **mount("pod")), volumes=volumes, restartPolicy="Never")
    machine.create("several", shell("ls /v", **mount("several")), volumes=volumes, restartPolicy="Never")
    names = ("secret", "itself", "several")
    for name in names:
        machine.pod(name, lambda pod: pod.status.phase == "Succeeded", "success")
    machine.pod("config", lambda pod: pod.status.container_statuses[0].restart_count > 0, "failure: it cannot write")
    assert machine.log("config").splitlines()[0] == "1 600"
    assert machine.log("secret") == "key 440 0:777 s3cret\n"
    assert machine.log("itself") == "name 644 0:0 itself\n"
    assert machine.log("several").split() == ["a", "b.txt", "bin", "key"]
    machine.end("config", *names, grace=0)


def test_changes_are_shown(machine: Machine) -> None:
    machine.put(CONFIG_MAPS, "follows", data={"a": "old", "gone": "x"})
    script = "while :; do echo $(ls /v) $(cat /v/a) $(cat /p/labels) $(cat /s); sleep 0.1; done"
    volumes = [
        {"name": "v", "configMap": {"name": "follows"}},
        {"name": "p", "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
    ]
    mounts = [
        {"name": "v", "mountPath": "/v"},
        {"name": "p", "mountPath": "/p"},
        {"name": "v", "mountPath": "/s", "subPath": "a"},
    ]
    machine.create("follows", shell(script, volumeMounts=mounts), volumes=volumes)
    machine.logged("follows", 'a gone old app="follows" old', LAST)
    machine.put(CONFIG_MAPS, "follows", data={"a": "new", "gone": None, "more": "y"})
    machine.logged("follows", 'a more new app="follows" old', LAST)  # a part of a volume stays what it was
    patch = {"metadata": {"labels": {"app": "renamed"}}}
    machine.do(lambda client: client.patch(PODS, "follows", "default", patch))
    machine.logged("follows", 'a more new app="renamed" old', LAST)
    machine.do(lambda client: client.delete(CONFIG_MAPS, "follows", "default"))
    text = 'MountVolume.SetUp failed for volume "v" : configmap "follows" not found'
    assert machine.event("follows", "FailedMount") == text
    machine.logged("follows", 'a more new app="renamed" old', LAST)
    machine.end("follows", grace=0)


def test_what_is_missing_is_waited_for(machine: Machine) -> None:
    machine.create("waits", shell(LOOP, **mount("v")), volumes=[{"name": "v", "secret": {"secretName": "late"}}])
    reference = {"configMapKeyRef": {"name": "late", "key": "k"}}
    machine.create("env", shell(f"echo $X; {LOOP}", env=[{"name": "X", "valueFrom": reference}]))
    pod = machine.pod("waits", lambda pod: waiting_reason(pod) == "ContainerCreating", "waiting")
    assert pod.status.phase == "Pending"
    assert 'volume "v" : secret "late" not found' in machine.event("waits", "FailedMount")
    pod = machine.pod("env", lambda pod: waiting_reason(pod) == "CreateContainerConfigError", "waiting")
    assert machine.event("env", "Failed") == 'Error: configmap "late" not found'
    machine.put(SECRETS, "late", data={})
    machine.put(CONFIG_MAPS, "late", data={"k": "here"})
    machine.pod("waits", is_running, "running")
    machine.pod("env", is_running, "running")
    assert machine.logged("env", "up\n").startswith("here\n")
    machine.end("waits", "env", grace=0)


def test_empty_directories_are_shared(machine: Machine) -> None:
    volumes = [
        {"name": "disk", "emptyDir": {}},
        {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
    ]
    both = [{"name": "disk", "mountPath": "/d"}, {"name": "memory", "mountPath": "/m"}]
    writer = shell(f"echo x > /d/a; dd if=/dev/zero of=/m/b bs=1M count=2; touch /d/written; {LOOP}", volumeMounts=both)
    part = {"volumeMounts": [{"name": "disk", "mountPath": "/e", "subPathExpr": "$(HOSTNAME)/sub", "readOnly": False}]}
    reader = shell(
        f"until [ -e /d/written ]; do sleep 0.05; done; cat /d/a; stat -c %s /m/b; touch /e/new; ls -R /d; {LOOP}"
    )
    reader["volumeMounts"] = [*both, *part["volumeMounts"]]
    machine.create("shared", writer, reader, volumes=volumes, securityContext={"fsGroup": 5})
    machine.pod("shared", is_running, "running")
    lines = machine.logged("shared", "up\n", "?container=c1").split()
    assert lines[:2] == ["x", str(1 << 20)]
    assert lines[lines.index("/d/shared/sub:") :][:2] == ["/d/shared/sub:", "new"]
    machine.end("shared", grace=0)


def test_a_part_of_a_volume_cannot_lead_out(machine: Machine) -> None:
    """A link that a container left in a volume is not followed to the node's files."""
    volumes = [{"name": "v", "emptyDir": {}}]
    link = shell("ln -s /etc /v/out; ln -s / /v/root; mkdir -p /v/in; ln -s in /v/good; touch /v/in/file", **mount("v"))
    machine.create("leads", shell("cat /x/passwd", **mount("v", "/x", subPath="out")), init=[link], volumes=volumes)
    machine.create("inside", shell(f"ls /x; {LOOP}", **mount("v", "/x", subPath="good")), init=[link], volumes=volumes)
    machine.pod("inside", is_running, "running")
    assert machine.logged("inside", "up\n", "?container=c").startswith("file\n")
    assert "Invalid cross-device link" in machine.event("leads", "Failed")
    machine.end("leads", "inside", grace=0)


def test_a_directory_that_changes_at_once(tmp_path: Path) -> None:
    files = {"a": Content(b"1"), "d/b": Content(b"2", 0o600), "d/c": Content(b"3")}
    assert atomicdirectory.write(tmp_path, files)
    before = (tmp_path / "..data").readlink()
    assert (tmp_path / "a").readlink() == Path("..data/a")
    assert {name: (tmp_path / name).read_bytes() for name in files} == {"a": b"1", "d/b": b"2", "d/c": b"3"}
    assert (tmp_path / "d/b").stat().st_mode & 0o777 == 0o600
    assert not atomicdirectory.write(tmp_path, files)  # nothing is touched when nothing changes
    assert (tmp_path / "..data").readlink() == before
    assert atomicdirectory.write(tmp_path, files | {"a": Content(b"1", 0o400)})
    assert (tmp_path / "..data").readlink() != before
    assert atomicdirectory.write(tmp_path, {"e": Content(b"4")})
    assert sorted(name for name in os.listdir(tmp_path) if not name.startswith("..")) == ["e"]
    assert len(os.listdir(tmp_path)) == 3  # the link, what it leads to, and the file
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "g").touch()
    (tmp_path / "h").touch()
    assert atomicdirectory.write(tmp_path, {"h": Content(b"5")})  # what somebody else left there goes
    assert (tmp_path / "h").is_symlink()
    assert len(os.listdir(tmp_path)) == 3
    assert atomicdirectory.write(tmp_path, {})
    assert len(os.listdir(tmp_path)) == 2


@pytest.mark.parametrize("mode", [0o644, 0o400, 0])
def test_files_of_a_group(tmp_path: Path, mode: int) -> None:
    group = os.getgid()
    assert atomicdirectory.write(tmp_path, {"a": Content(b"1", mode)}, group)
    state = (tmp_path / "a").stat()
    assert (state.st_mode & 0o777, state.st_gid) == (mode | 0o440, group)
    assert not atomicdirectory.write(tmp_path, {"a": Content(b"1", mode)}, group)
