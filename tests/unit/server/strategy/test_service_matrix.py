"""Every combination of policy, families, addresses, type, selector and server, against a model of its own."""

from __future__ import annotations

import copy
import itertools
import os
import random
import re
from collections.abc import Sequence
from typing import Any

import pytest
from tests.service_server import SERVICES, Server
from tests.unit.server.strategy.service_model import RANGES, SERVERS, Cause, Form, created, family_of, updated

from twinstack.api.errors import StatusError

JSON = dict[str, Any]

V4, V6, OTHER_V4 = "10.96.7.1", "fd00:96::71", "10.96.7.2"
POLICIES = (None, "SingleStack", "PreferDualStack", "RequireDualStack", "Bogus", "")
FAMILIES: tuple[list[str], ...] = (
    [],
    ["IPv4"],
    ["IPv6"],
    ["IPv4", "IPv6"],
    ["IPv6", "IPv4"],
    ["IPv4", "IPv4"],
    ["IPv5"],
    ["IPv4", "IPv6", "IPv4"],
    ["ipv4"],
)
ADDRESSES: tuple[tuple[str, list[str]], ...] = (
    ("", []),
    ("None", []),
    ("", ["None"]),
    (V4, []),
    (V6, []),
    ("", [V4]),
    (V4, [V4]),
    (V4, [V4, V6]),
    (V6, [V6, V4]),
    ("", [V4, V6]),
    (V4, [V6, V4]),
    (V4, [V4, OTHER_V4]),
    (V4, [V4, "None"]),
    ("None", ["None", "None"]),
    ("None", [V4]),
    (V4, [V4, V6, OTHER_V4]),
    ("10.0.0.300", []),
    ("10.096.1.1", []),
    ("::ffff:10.96.1.1", []),
    ("192.168.7.9", []),
    ("2001:db8::1", []),
    (V4, [V4, "2001:db8::1"]),
    ("", [""]),
    ("10.96.0.1", []),
)
TYPES = ("ClusterIP", "NodePort", "LoadBalancer", "ExternalName", "Bogus")
CHOSEN = re.compile(r'"(10\.96\.[0-9.]+|fd00:96::[0-9a-f]+)"')
SAMPLE = 1 if os.environ.get("TWINSTACK_TESTS") == "soak" else 8  # one of so many combinations


def body(form: Form) -> JSON:
    spec: JSON = {"type": form.type, "ports": [{"port": 80}]}
    said = {"ipFamilyPolicy": form.policy, "ipFamilies": form.families, "clusterIP": form.ip, "clusterIPs": form.ips}
    spec |= {name: copy.copy(value) for name, value in said.items() if value is not None and value != []}
    if form.selector:
        spec["selector"] = {"app": "x"}
    if form.type == "ExternalName":
        spec["externalName"] = "example.com"
    return {"metadata": {"name": "a"}, "spec": spec}


def shown(spec: JSON) -> Form:
    return Form(
        type=spec["type"],
        selector=bool(spec.get("selector")),
        policy=spec.get("ipFamilyPolicy"),
        families=spec.get("ipFamilies", []),
        ip=spec.get("clusterIP", ""),
        ips=spec.get("clusterIPs", []),
    )


def causes(error: StatusError) -> list[Cause]:
    assert error.code == 422, error
    return [(c["reason"], c["field"], c["message"]) for c in (error.details or {})["causes"]]


def check(got: Form | list[Cause], wanted: Form | list[Cause], given: Any) -> None:
    """Where the model has `*IPv4` any address of the range will do."""
    if isinstance(got, list) or isinstance(wanted, list):
        assert starred(got, repr(given)) == wanted, given
        return
    assert (got.type, got.policy, got.families) == (wanted.type, wanted.policy, wanted.families), given
    assert len(got.ips) == len(wanted.ips), given
    for now, expected in zip(got.ips, wanted.ips, strict=True):
        chosen = expected.startswith("*")
        assert now.startswith(RANGES[expected[1:]]) if chosen else now == expected, given
    assert got.ip == (got.ips[0] if got.ips else ""), given


def starred(outcome: Form | list[Cause], given: str) -> Form | list[Cause]:
    """Causes with a star for each address that the server has chosen in this request."""
    if isinstance(outcome, Form):
        return outcome

    def star(found: re.Match[str]) -> str:
        return found[0] if f"'{found[1]}'" in given else f'"*{family_of(found[1])}"'

    return [(reason, field, CHOSEN.sub(star, message)) for reason, field, message in outcome]


def fresh(server: str) -> tuple[Server, set[str]]:
    made = Server(server)
    return made, {str(made.config.service_ranges[0].address(1))}


def tried(server: Server, form: Form, old: JSON | None) -> Form | list[Cause]:
    """Writes; puts the store back."""
    before, revision = dict(server.store.records), server.store.revision
    try:
        made = server.create(body(form)) if old is None else server.update("a", put(old, form))
    except StatusError as error:
        assert server.store.records == before, "a refused write has left something"
        return causes(error)
    finally:
        server.store.records, server.store.revision = before, revision
    return shown(made["spec"])


def put(old: JSON, form: Form) -> JSON:
    """The live object with other families, addresses and type."""
    spec = copy.deepcopy(old["spec"])
    for name in ("ipFamilyPolicy", "ipFamilies", "clusterIP", "clusterIPs", "selector"):
        spec.pop(name, None)
    return {"metadata": {"name": "a"}, "spec": spec | body(form)["spec"] | {"ports": spec["ports"]}}


def sampled(combinations: Sequence[Any], seed: str) -> list[Any]:
    chosen = random.Random(seed)
    return [each for each in combinations if SAMPLE == 1 or chosen.randrange(SAMPLE) == 0]


@pytest.mark.parametrize("server", SERVERS)
def test_creates(server: str) -> None:
    made, taken = fresh(server)
    everything = list(itertools.product(TYPES, (True, False), POLICIES, FAMILIES, ADDRESSES))
    for kind, selector, policy, families, (ip, ips) in sampled(everything, server):
        form = Form(kind, selector, policy, families, ip, ips)
        check(tried(made, form, None), created(form, server, taken), form)


OLD = (
    Form(policy="SingleStack"),
    Form(policy="PreferDualStack"),
    Form(policy="RequireDualStack"),
    Form(families=["IPv6"]),
    Form(policy="PreferDualStack", families=["IPv6"]),
    Form(policy="PreferDualStack", families=["IPv4", "IPv6"], ip=OTHER_V4, ips=[OTHER_V4, "fd00:96::72"]),
    Form(ip="None"),
    Form(ip="None", policy="PreferDualStack"),
    Form(ip="None", selector=False),
    Form(ip="None", selector=False, policy="SingleStack", families=["IPv6"]),
    Form(type="NodePort", policy="PreferDualStack"),
    Form(type="LoadBalancer", policy="SingleStack"),
    Form(type="ExternalName"),
)


def edits(old: Form) -> list[Form]:
    """Everything that a client may do to policy, families, addresses and type at once."""
    policies = ["keep", *POLICIES]
    families = [["keep"], *FAMILIES[:5], ["IPv4", "IPv4"], old.families[:1], old.families[::-1]]
    spare = V6 if old.ip and family_of(old.ip) == "IPv4" else V4
    addresses: list[tuple[str, list[str]]] = [
        (old.ip, old.ips),
        ("", []),
        (old.ip, []),
        ("", old.ips),
        (old.ip, old.ips[:1]),
        ((old.ips or [""])[-1], old.ips[::-1]),
        (old.ip, [*old.ips[:1], spare]),
        (V4, old.ips),
        (V4, [V4]),
        (V6, [V6]),
        ("None", ["None"]),
        ("None", old.ips),
        (old.ip, [*old.ips, OTHER_V4]),
    ]
    types = list(dict.fromkeys((old.type, "ClusterIP", "NodePort", "ExternalName", "Bogus")))
    found: list[Form] = []
    for policy, listed, (ip, ips), kind, selector in itertools.product(
        policies, families, addresses, types, {old.selector, True}
    ):
        form = Form(
            type=kind,
            selector=selector,
            policy=old.policy if policy == "keep" else policy,
            families=old.families if listed == ["keep"] else listed,
            ip=ip,
            ips=ips,
        )
        if form not in found[-8:]:
            found.append(form)
    return found


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("number", range(len(OLD)))
def test_updates(server: str, number: int) -> None:
    made, taken = fresh(server)
    try:
        made.create(body(OLD[number]))
    except StatusError:
        assert len(SERVERS[server]) == 1  # such a Service cannot be there
        return
    live = made.store.get(SERVICES, "default", "a")
    assert live
    old = shown(live["spec"])
    mine = set(old.ips)
    for form in sampled(edits(old), f"{server}{number}"):
        check(tried(made, form, live), updated(form, old, server, taken | mine), (old, form))
