"""Parts of pods on a real node: ephemeral containers, files of the node, a name server that is not there, statuses."""

from __future__ import annotations

import io
import signal
import socket
from pathlib import Path
from typing import Any

from tests.integration.node.machine import IMAGE, LOOP, NODE, Machine, is_running
from tests.unit.node.images.making import DIRECTORY, FILE, Made, layout, tar

from twinstack.api.core import ContainerStatus, Pod
from twinstack.api.kinds import NODES, PODS
from twinstack.node.images.builtin import busybox_layer, static_busybox
from twinstack.node.images.store import ImageStore


def ephemeral(pod: Pod) -> ContainerStatus | None:
    return next(iter(pod.status.ephemeral_container_statuses), None)


def test_a_running_pod_is_given_an_ephemeral_container(machine: Machine) -> None:
    volume = {"name": "v", "emptyDir": {}}
    mount = {"name": "v", "mountPath": "/v"}
    machine.create(
        "patient", {"command": ["sh", "-c", f"echo text >/v/file; {LOOP}"], "volumeMounts": [mount]}, volumes=[volume]
    )
    before = machine.pod("patient", is_running, "running")
    debugger: dict[str, Any] = {
        "name": "debugger",
        "image": IMAGE,
        "command": ["sh", "-c", "cat /v/file; cat /etc/hosts; exit 4"],
        "volumeMounts": [mount],
    }
    patch = {"spec": {"ephemeralContainers": [debugger]}}
    machine.do(lambda client: client.patch(PODS, "patient", "default", patch, subresource="ephemeralcontainers"))
    pod = machine.pod(
        "patient", lambda pod: (s := ephemeral(pod)) is not None and s.state.terminated is not None, "its end"
    )
    status = ephemeral(pod)
    assert status is not None
    assert status.state.terminated is not None
    assert (status.state.terminated.exit_code, status.restart_count, status.ready) == (4, 0, False)
    lines = machine.log("patient", "?container=debugger").splitlines()
    assert lines[0] == "text"
    assert any(line.startswith(before.status.pod_ips[1].ip) for line in lines)
    assert pod.status.phase == "Running"
    assert is_running(pod)  # it is not asked about, and is not started again
    part = "spec.ephemeralContainers{debugger}"
    machine.told("patient", ("Started", part, "Container started"))
    assert [reason for reason, path, _ in machine.events("patient") if path == part] == ["Pulled", "Created", "Started"]
    machine.end("patient", grace=1)


def test_a_debugger_sees_the_processes_of_its_target(machine: Machine) -> None:
    machine.create(
        "watched",
        {"name": "a", "command": ["sh", "-c", "exec sleep 71"]},
        {"name": "b", "command": ["sh", "-c", "exec sleep 72"]},
        terminationGracePeriodSeconds=0,
    )
    machine.pod("watched", is_running, "running")
    script = "tr '\\0' ' ' </proc/1/cmdline; test $$$$ -gt 1 && echo beside it"
    debugger = {"name": "debugger", "image": IMAGE, "targetContainerName": "a", "command": ["sh", "-c", script]}
    patch = {"spec": {"ephemeralContainers": [debugger]}}
    machine.do(lambda client: client.patch(PODS, "watched", "default", patch, subresource="ephemeralcontainers"))
    machine.pod("watched", lambda pod: (s := ephemeral(pod)) is not None and s.state.terminated is not None, "its end")
    assert machine.log("watched", "?container=debugger") == "sleep 71 beside it\n"
    machine.end("watched", grace=0)


def test_files_of_the_node(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "file").write_text("of the node\n")
    with socket.socket(socket.AF_UNIX) as held:
        held.bind(str(tmp_path / "socket"))
        kinds = {
            "dir": "Directory",
            "dir/file": "File",
            "socket": "Socket",
            "made": "DirectoryOrCreate",
            "empty": "FileOrCreate",
            "any": "",
        }
        volumes = [
            {"name": f"v{i}", "hostPath": {"path": str(tmp_path / path), "type": kind}}
            for i, (path, kind) in enumerate(kinds.items())
        ]
        volumes.append({"name": "null", "hostPath": {"path": "/dev/null", "type": "CharDevice"}})
        mounts: list[dict[str, Any]] = [
            {"name": volume["name"], "mountPath": f"/srv/{volume['name']}"} for volume in volumes
        ]
        mounts[0] |= {"readOnly": True, "recursiveReadOnly": "Enabled"}
        mounts.append({"name": "v0", "mountPath": "/srv/part", "subPath": "file"})
        script = (  # one stream: the shell writes its error in parts, which another stream may come between
            "exec 2>&1; cat /srv/v0/file /srv/v1 /srv/part; test -S /srv/v2 && echo socket; echo x >/srv/v3/new;"
            "echo y >/srv/v4; echo z >/srv/v5/new; echo no >/srv/v0/new; test -c /srv/null && echo device"
        )
        machine.create(
            "files", {"command": ["sh", "-c", script], "volumeMounts": mounts}, volumes=volumes, restartPolicy="Never"
        )
        pod = machine.pod("files", lambda pod: pod.status.phase in ("Succeeded", "Failed"), "its end")
    lines = machine.log("files").splitlines()
    assert lines[:4] == ["of the node"] * 3 + ["socket"]
    assert "device" in lines
    assert any("Read-only file system" in line for line in lines)
    written = [(tmp_path / path).read_text() for path in ("made/new", "empty", "any/new")]
    assert written == ["x\n", "y\n", "z\n"]
    shown = pod.status.container_statuses[0].volume_mounts
    assert isinstance(shown, list)
    assert shown[0] == {"name": "v0", "mountPath": "/srv/v0", "readOnly": True, "recursiveReadOnly": "Enabled"}
    assert shown[1] == {"name": "v1", "mountPath": "/srv/v1"}
    machine.end("files", grace=0)
    assert (tmp_path / "dir" / "file").exists()  # the node's, not the pod's


def test_a_file_of_the_node_that_is_something_else(machine: Machine, tmp_path: Path) -> None:
    path = tmp_path / "later"
    volume = {"name": "v", "hostPath": {"path": str(path), "type": "File"}}
    machine.create("wrong", {"command": ["sh", "-c", LOOP]}, volumes=[volume])
    message = machine.event("wrong", "FailedMount")
    assert message == f'MountVolume.SetUp failed for volume "v" : hostPath type check failed: {path} is not a file'
    path.touch()
    machine.pod("wrong", is_running, "running once it is there")
    machine.end("wrong", grace=0)


def test_a_pod_that_asks_a_cluster_dns_that_is_not_there(machine: Machine) -> None:
    pod = machine.create("asks", {"command": ["sh", "-c", LOOP]})
    assert machine.event("asks", "MissingClusterDNS") == (
        f'pod: "asks_default({pod.metadata.uid})". kubelet does not have ClusterDNS IP configured and cannot create '
        'Pod using "ClusterFirst" policy. Falling back to "Default" policy.'
    )
    machine.create("knows", {"command": ["sh", "-c", LOOP]}, dnsPolicy="Default")
    machine.pod("knows", is_running, "running")
    assert "MissingClusterDNS" not in [reason for reason, _, _ in machine.events("knows")]
    machine.end("asks", "knows", grace=0)


def test_what_a_container_was_given(machine: Machine) -> None:
    resources = {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}}
    context = {"runAsUser": 7, "runAsGroup": 8, "supplementalGroups": [5], "supplementalGroupsPolicy": "Strict"}
    script = f"id -G; {LOOP}"
    machine.create("given", {"command": ["sh", "-c", script], "resources": resources}, securityContext=context)
    status = machine.pod("given", is_running, "running").status.container_statuses[0]
    assert status.resources == resources
    assert status.allocated_resources == resources["requests"]
    assert status.user == {"linux": {"uid": 7, "gid": 8, "supplementalGroups": [8, 5]}}
    assert machine.log("given").splitlines()[0] == "8 5"
    machine.end("given", grace=0)
    node = machine.do(lambda client: client.get(NODES, NODE))
    assert node.status.features == {"supplementalGroupsPolicy": True}
    assert node.status.runtime_handlers[0].features["recursiveReadOnlyMounts"]


def test_an_image_says_who_runs_and_how_it_is_stopped(machine: Machine) -> None:
    program = static_busybox()
    assert program is not None
    accounts = tar(
        [
            ("etc", DIRECTORY, b""),
            ("etc/passwd", FILE, b"web:x:33:34::/:/bin/sh\n"),
            ("etc/group", FILE, b"logs:x:41:web\n"),
        ]
    )
    made = Made([busybox_layer(Path(program).read_bytes(), ["/bin/sh"]), accounts], User="web", StopSignal="QUIT")
    ImageStore(machine.root / "images").load(io.BytesIO(layout([(made, "example.com/quits:1")])))
    script = "trap 'echo quit; exit 0' QUIT; while :; do sleep 0.05; done"
    container = {"name": "c", "image": "example.com/quits:1", "command": ["sh", "-c", script]}
    machine.create("quits", container, securityContext={"supplementalGroups": [5]})
    pod = machine.pod("quits", is_running, "running")
    user = {"linux": {"uid": 33, "gid": 34, "supplementalGroups": [34, 41, 5]}}
    assert pod.status.container_statuses[0].user == user
    machine.kill_agent(signal.SIGKILL)
    machine.start_agent()  # which finds it in its records
    with (machine.root / "pods" / pod.metadata.uid / "containers" / "c" / "0.log").open() as log:
        machine.end("quits", grace=30)
        assert log.read().endswith("quit\n")
