from __future__ import annotations

import pytest
from tests.unit.node.building import pod

from twinstack.api.core import Container
from twinstack.linux.capabilities import DEFAULT, NAMES, numbers
from twinstack.node.environment import ConfigError
from twinstack.node.runtime.base import Security
from twinstack.node.security import forbidden_sysctl, ignored, refused, resolve, sysctls


def test_by_default_root_with_few_rights() -> None:
    assert resolve(pod(), Container()) == Security(capabilities=DEFAULT)
    assert resolve(pod(), Container()).seccomp == "RuntimeDefault"
    assert not resolve(pod(), Container()).no_new_privileges
    denied = Container(security_context={"allowPrivilegeEscalation": False})
    assert resolve(pod(), denied).no_new_privileges
    assert "SYS_ADMIN" not in DEFAULT


def test_the_containers_context_wins() -> None:
    of = pod(security_context={"runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 2000, "supplementalGroups": [3000]})
    found = resolve(of, Container(security_context={"runAsUser": 7, "readOnlyRootFilesystem": True}))
    assert (found.user, found.group, found.groups, found.read_only_root) == (7, 1000, (3000, 2000), True)


@pytest.mark.parametrize(
    ("change", "held"),
    [
        ({"drop": ["ALL"]}, frozenset()),
        ({"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}, {"NET_BIND_SERVICE"}),
        ({"add": ["CAP_NET_ADMIN"]}, DEFAULT | {"NET_ADMIN"}),
        ({"add": ["ALL"], "drop": ["sys_admin"]}, frozenset(NAMES) - {"SYS_ADMIN"}),
    ],
)
def test_capabilities(change: dict[str, list[str]], held: frozenset[str]) -> None:
    assert resolve(pod(), Container(security_context={"capabilities": change})).capabilities == held


def test_unknown_capabilities_are_refused() -> None:
    with pytest.raises(ConfigError, match="unknown capability to add or drop: FLY"):
        resolve(pod(), Container(security_context={"capabilities": {"add": ["FLY"]}}))
    with pytest.raises(ValueError, match="FLY"):
        numbers({"FLY"})


def test_privileged() -> None:
    found = resolve(pod(), Container(security_context={"privileged": True}))
    assert found.capabilities == frozenset(NAMES)
    assert not found.no_new_privileges


def test_root_is_refused_where_it_is_not_wanted() -> None:
    with pytest.raises(ConfigError, match="runAsNonRoot and image will run as root"):
        resolve(pod(security_context={"runAsNonRoot": True}), Container(name="c"))
    assert resolve(pod(security_context={"runAsNonRoot": True, "runAsUser": 5}), Container()).user == 5
    of = pod(security_context={"runAsNonRoot": True})
    assert resolve(of, Container(), "1000:1000").user is None  # the image's
    with pytest.raises(ConfigError, match=r"non-numeric user \(web\)"):
        resolve(of, Container(), "web")


def test_seccomp_profiles() -> None:
    general = pod(security_context={"seccompProfile": {"type": "Unconfined"}})
    assert resolve(general, Container()).seccomp == "Unconfined"
    own = Container(security_context={"seccompProfile": {"type": "Localhost", "localhostProfile": "a/b.json"}})
    assert resolve(general, own).seccomp == "a/b.json"
    out = Container(security_context={"seccompProfile": {"type": "Localhost", "localhostProfile": "../b.json"}})
    with pytest.raises(ConfigError):
        resolve(general, out)


def test_kernel_parameters() -> None:
    of = pod(security_context={"sysctls": [{"name": "net.ipv4.tcp_syncookies", "value": "1"}]})
    assert sysctls(of) == {"net.ipv4.tcp_syncookies": "1"}
    assert forbidden_sysctl(of) == ""
    of.spec.host_network = True
    text = 'forbidden sysctl: "net.ipv4.tcp_syncookies" not allowed with host net enabled'
    assert forbidden_sysctl(of) == text
    of = pod(security_context={"sysctls": [{"name": "kernel/msgmax", "value": "1"}]})
    assert forbidden_sysctl(of) == 'forbidden sysctl: "kernel.msgmax" not allowlisted'


NOTHING = frozenset[str]()


def test_what_cannot_be_done_is_said() -> None:
    assert refused(pod()) == ""
    assert refused(pod(share_process_namespace=True, host_pid=True)) == ""
    of = pod()
    assert ignored(of, NOTHING) == []
    of.spec.containers[0].resources = {"limits": {"memory": "1Gi", "ephemeral-storage": "1Gi"}}
    of.spec.security_context = {"seLinuxOptions": {"level": "s0"}}
    assert ignored(of, NOTHING) == ["limits.ephemeral-storage", "limits.memory", "seLinuxOptions"]
    assert ignored(of, frozenset({"memory", "cpu"})) == ["limits.ephemeral-storage", "seLinuxOptions"]


def test_more_that_cannot_be_done_is_said() -> None:
    assert refused(pod(host_users=False)) == "not supported by this node: hostUsers: false"
    of = pod(resources={"limits": {"cpu": "1"}}, volumes=[{"name": "v", "emptyDir": {"sizeLimit": "1Gi"}}])
    assert ignored(of, NOTHING) == ["limits.cpu", "sizeLimit of an emptyDir on disk"]
    of.spec.containers[0].volume_devices = [{"name": "v", "devicePath": "/dev/x"}]
    assert refused(of) == "not supported by this node: volumeDevices"
    assert ignored(pod(volumes=[{"name": "v", "emptyDir": {"sizeLimit": "1Gi", "medium": "Memory"}}]), NOTHING) == []
