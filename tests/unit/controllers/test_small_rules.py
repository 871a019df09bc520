"""Rules of a few lines each: trigger times, selection of controllers, flags."""

from __future__ import annotations

import argparse

import pytest
from tests.unit.controllers.workloads import deployment, pod

from twinstack.api.core import ConfigMap, Service
from twinstack.api.errors import StatusError
from twinstack.api.meta import ObjectMeta
from twinstack.controllers import command
from twinstack.controllers.context import namespace_ends
from twinstack.controllers.rootca import RootCA
from twinstack.controllers.selection import select
from twinstack.controllers.triggers import TriggerTimes


def test_trigger_times_are_told_once_and_the_earliest_first() -> None:
    times = TriggerTimes()
    service = Service(metadata=ObjectMeta(name="s", uid="s", creation_timestamp="2026-01-01T00:00:00Z"))
    assert times.observe(service, []) == "2026-01-01T00:00:00Z"
    early, late = pod("a", ready_for=100), pod("b", ready_for=50)
    first = early.status.conditions[0].last_transition_time
    assert times.observe(service, [early, late]) == first
    assert times.observe(service, [early, late]) is None
    assert times.observe(service, [early, pod("c", ready_for=None)]) is None
    times.forget("s")
    assert times.observe(service, []) == "2026-01-01T00:00:00Z"


KNOWN = ["endpointslice-controller", "namespace-controller", "serviceaccount-controller"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("*", KNOWN),
        ("*,-namespace-controller", [KNOWN[0], KNOWN[2]]),
        ("*,-namespace", [KNOWN[0], KNOWN[2]]),
        ("namespace-controller", [KNOWN[1]]),
        ("serviceaccount, endpointslice-controller", [KNOWN[0], KNOWN[2]]),
        ("-namespace-controller", []),
        ("", []),
    ],
)
def test_selection(text: str, expected: list[str]) -> None:
    assert select(text, KNOWN) == expected


@pytest.mark.parametrize("text", ["nonsense", "*,-nonsense"])
def test_selection_of_what_there_is_not(text: str) -> None:
    with pytest.raises(ValueError, match='"nonsense" is not in the list of known controllers'):
        select(text, KNOWN)


def test_flags() -> None:
    parser = argparse.ArgumentParser()
    command.add_flags(parser)
    args = parser.parse_args(["--kubeconfig", "f", "--node-monitor-grace-period=1m30s", "--allocate-node-cidrs=false"])
    assert (args.node_monitor_grace_period, args.allocate_node_cidrs, args.controllers) == (90.0, False, "*")
    assert parser.parse_args(["--kubeconfig", "f", "--allocate-node-cidrs"]).allocate_node_cidrs is True
    with pytest.raises(SystemExit):
        parser.parse_args(["--kubeconfig", "f", "--node-monitor-grace-period=soon"])


def test_the_certificate_is_published_whole() -> None:
    purpose = RootCA("PEM")
    body = purpose.body()
    good = ConfigMap(data=body["data"], metadata=ObjectMeta(annotations=body["metadata"]["annotations"]))
    assert purpose.mend(good) is None
    good.data = {"ca.crt": "old", "extra": "x"}
    patch = purpose.mend(good)
    assert patch is not None
    assert patch["data"] == {"ca.crt": "PEM", "extra": None}


def test_an_ending_namespace_is_known_by_its_cause() -> None:
    cause = {"causes": [{"reason": "NamespaceTerminating", "message": "…", "field": "metadata.namespace"}]}
    assert namespace_ends(StatusError(403, "Forbidden", "m", details=cause))
    assert not namespace_ends(StatusError(403, "Forbidden", "m"))
    assert deployment().key == "shop/web"
