"""How volumes are mounted; the words are kubelet's and kube-apiserver's."""

from __future__ import annotations

from typing import Any

import pytest

from twinstack.api.core import Container
from twinstack.node.environment import ConfigError
from twinstack.node.mountmodes import propagation, recursive_read_only, status
from twinstack.node.runtime.base import Propagation

PRIVILEGED = Container(security_context={"privileged": True})


def mount(**fields: Any) -> dict[str, Any]:
    return {"name": "v", "mountPath": "/v", **fields}


def test_propagation() -> None:
    assert propagation(mount(), Container()) is Propagation.PRIVATE
    assert propagation(mount(mountPropagation="HostToContainer"), Container()) is Propagation.SLAVE
    assert propagation(mount(mountPropagation="Bidirectional"), PRIVILEGED) is Propagation.SHARED
    with pytest.raises(ConfigError, match="available only to privileged containers"):
        propagation(mount(mountPropagation="Bidirectional"), Container())
    with pytest.raises(ConfigError, match='invalid MountPropagation mode: "X"'):
        propagation(mount(mountPropagation="X"), Container())


@pytest.mark.parametrize(
    ("mode", "possible", "found"),
    [(None, True, False), ("Disabled", True, False), ("IfPossible", True, True), ("IfPossible", False, False)],
)
def test_read_only_all_the_way_down(mode: str | None, possible: bool, found: bool) -> None:
    entry = mount(readOnly=True, recursiveReadOnly=mode)
    assert recursive_read_only(entry, possible=possible) is found
    shown = "Enabled" if found else "Disabled"
    assert status(entry, possible=possible) == mount(readOnly=True, recursiveReadOnly=shown)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"readOnly": True}, "it is not supported by the runtime"),
        ({}, "it is not read-only"),
        (
            {"readOnly": True, "mountPropagation": "HostToContainer"},
            'it is not compatible with propagation "HostToContainer"',
        ),
    ],
)
def test_what_cannot_be_read_only_all_the_way_down(fields: dict[str, Any], problem: str) -> None:
    entry = mount(recursiveReadOnly="Enabled", **fields)
    with pytest.raises(ConfigError) as caught:
        recursive_read_only(entry, possible=False)
    text = 'failed to resolve recursive read-only mode: volume "v" requested recursive read-only mode, but '
    assert str(caught.value) == text + problem
    assert status(entry, possible=False).get("recursiveReadOnly", "Disabled") == "Disabled"
