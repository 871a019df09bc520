"""Pod affinity, anti-affinity and topology spread: against tables, and against the rules read out naively."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinstack.api.core import Node, Pod, PodSpec
from twinstack.api.meta import ObjectMeta
from twinstack.scheduler.decision import decide
from twinstack.scheduler.loads import Loads
from twinstack.scheduler.neighbours import AFFINITY, ANTI_AFFINITY, OTHERS, Neighbours
from twinstack.scheduler.refusals import Refusal
from twinstack.scheduler.requests import footprint
from twinstack.scheduler.spreading import SKEWED, UNLABELED, Spread

NAMESPACES = {"default": {"team": "a"}, "other": {"team": "b"}}
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
ZONE, HOST = "zone", "host"


def node(name: str, zone: str | None = None) -> Node:
    return Node(metadata=ObjectMeta(name=name, labels={HOST: name} | ({ZONE: zone} if zone else {})))


NODES = {n.metadata.name: n for n in (node("a1", "a"), node("a2", "a"), node("b1", "b"), node("lost"))}


def term(app: str | None, key: str = HOST, **more: Any) -> dict[str, Any]:
    """Pods labelled app=`app`; None: of any label."""
    selector = {"matchLabels": {"app": app}} if app is not None else {}
    return {"labelSelector": selector, "topologyKey": key} | more


def pod(
    name: str,
    app: str = "",
    *,
    namespace: str = "default",
    wants: tuple[dict[str, Any], ...] = (),
    avoids: tuple[dict[str, Any], ...] = (),
    labels: dict[str, str] | None = None,
    **spec: Any,
) -> Pod:
    affinity = {"podAffinity": {REQUIRED: list(wants)}, "podAntiAffinity": {REQUIRED: list(avoids)}}
    meta = ObjectMeta(name=name, namespace=namespace, uid=name, labels=({"app": app} if app else {}) | (labels or {}))
    return Pod(metadata=meta, spec=PodSpec(**({"affinity": affinity} | spec)))


class Placed(NamedTuple):
    node: str
    pod: Pod


def loads_of(*placed: Placed) -> Loads:
    loads = Loads()
    for number, (where, what) in enumerate(placed):
        loads.place(f"{number}", where, footprint(what))
    return loads


def refusals(wish: Pod, *placed: Placed) -> dict[str, Refusal | None]:
    neighbours = Neighbours(wish, footprint(wish), NODES, loads_of(*placed), NAMESPACES.__getitem__)
    return {name: neighbours.refusal(n) for name, n in NODES.items()}


def where(wish: Pod, *placed: Placed) -> set[str]:
    return {name for name, against in refusals(wish, *placed).items() if against is None}


EVERYWHERE = set(NODES)
WEB = Placed("a1", pod("web", "web"))
ABROAD = Placed("a1", pod("w", "web", namespace="other"))


def test_without_terms_nothing_is_refused() -> None:
    assert where(pod("p"), WEB) == EVERYWHERE


@pytest.mark.parametrize(
    ("wish", "placed", "fits"),
    [
        (pod("p", wants=(term("web"),)), (WEB,), {"a1"}),
        (pod("p", wants=(term("web", ZONE),)), (WEB,), {"a1", "a2"}),
        (pod("p", wants=(term("web"),)), (), set()),
        (pod("p", "web", wants=(term("web"),)), (), EVERYWHERE),  # the first of its kind
        (pod("p", "web", wants=(term("web", ZONE),)), (), {"a1", "a2", "b1"}),  # but where the key is
        (pod("p", "web", wants=(term("web"), term("db"))), (), set()),
        (pod("p", "web", wants=(term("web"),)), (Placed("b1", pod("w", "web")),), {"b1"}),
        (pod("p", wants=(term("web"), term("web", ZONE))), (WEB,), {"a1"}),
        # Every term must select the very same Pod, as upstream counts them.
        (pod("p", wants=(term("web"), term("db"))), (WEB, Placed("a1", pod("db", "db"))), set()),
        (pod("p", wants=({"topologyKey": HOST},)), (WEB,), set()),  # no selector selects nothing
        (pod("p", wants=(term(None),)), (WEB,), {"a1"}),  # an empty one everything
        (pod("p", wants=(term("web"),)), (ABROAD,), set()),
        (
            pod("p", wants=(term("web", namespaces=["other"]),)),
            (Placed("a1", pod("w", "web", namespace="other")),),
            {"a1"},
        ),
        (pod("p", wants=(term("web", namespaceSelector={}),)), (ABROAD,), {"a1"}),
        (
            pod("p", wants=(term("web", namespaceSelector={"matchLabels": {"team": "b"}}),)),
            (WEB, Placed("b1", pod("w", "web", namespace="other"))),
            {"b1"},
        ),
        (pod("p", wants=(term("web", ZONE),)), (Placed("lost", pod("w", "web")),), set()),
        (pod("p", wants=(term("web"),)), (Placed("gone", pod("w", "web")),), set()),
        (
            pod("p", "web", labels={"v": "2"}, wants=(term("web", matchLabelKeys=["v"]),)),
            (WEB, Placed("b1", pod("w", "web", labels={"v": "2"}))),
            {"b1"},
        ),
        (
            pod("p", "db", labels={"v": "2"}, wants=(term("web", mismatchLabelKeys=["v"]),)),
            (WEB, Placed("b1", pod("w", "web", labels={"v": "2"}))),
            {"a1"},
        ),
    ],
)
def test_affinity(wish: Pod, placed: tuple[Placed, ...], fits: set[str]) -> None:
    found = refusals(wish, *placed)
    assert {name for name, against in found.items() if against is None} == fits
    assert {against for against in found.values() if against is not None} <= {AFFINITY}


@pytest.mark.parametrize(
    ("wish", "placed", "fits"),
    [
        (pod("p", avoids=(term("web"),)), (WEB,), {"a2", "b1", "lost"}),
        (pod("p", avoids=(term("web", ZONE),)), (WEB,), {"b1", "lost"}),
        (pod("p", avoids=(term("web"),)), (), EVERYWHERE),
        (pod("p", avoids=(term("web"), term("db"))), (WEB, Placed("b1", pod("d", "db"))), {"a2", "lost"}),
        (pod("p", avoids=({"topologyKey": HOST},)), (WEB,), EVERYWHERE),
        (pod("p", avoids=(term("web"),)), (ABROAD,), EVERYWHERE),
    ],
)
def test_anti_affinity(wish: Pod, placed: tuple[Placed, ...], fits: set[str]) -> None:
    found = refusals(wish, *placed)
    assert {name for name, against in found.items() if against is None} == fits
    assert {against for against in found.values() if against is not None} <= {ANTI_AFFINITY}


@pytest.mark.parametrize(
    ("owner", "wish", "fits"),
    [
        (pod("o", avoids=(term("web"),)), pod("p", "web"), {"a2", "b1", "lost"}),
        (pod("o", avoids=(term("web", ZONE),)), pod("p", "web"), {"b1", "lost"}),
        (pod("o", avoids=(term("web"),)), pod("p", "db"), EVERYWHERE),
        (pod("o", avoids=(term("web"),)), pod("p", "web", namespace="other"), EVERYWHERE),
        (
            pod("o", avoids=(term("web", namespaceSelector={}),)),
            pod("p", "web", namespace="other"),
            {"a2", "b1", "lost"},
        ),
    ],
)
def test_those_that_are_there_may_keep_others_away(owner: Pod, wish: Pod, fits: set[str]) -> None:
    found = refusals(wish, Placed("a1", owner))
    assert {name for name, against in found.items() if against is None} == fits
    assert {against for against in found.values() if against is not None} <= {OTHERS}


def test_preferred_terms_weigh_each_pod() -> None:
    def preferred(kind: str, weight: int, app: str, key: str) -> dict[str, Any]:
        entry = {"weight": weight, "podAffinityTerm": term(app, key)}
        return {kind: {"preferredDuringSchedulingIgnoredDuringExecution": [entry]}}

    wish = pod("p", affinity=preferred("podAffinity", 5, "web", ZONE) | preferred("podAntiAffinity", 3, "db", HOST))
    placed = loads_of(WEB, Placed("a2", pod("w", "web")), Placed("a1", pod("d", "db")), Placed("b1", pod("d", "db")))
    neighbours = Neighbours(wish, footprint(wish), NODES, placed, NAMESPACES.__getitem__)
    assert {name: neighbours.preference(n) for name, n in NODES.items()} == {"a1": 7, "a2": 10, "b1": -3, "lost": 0}
    decision = decide(wish, footprint(wish), NODES, placed, NAMESPACES.__getitem__)
    assert decision.node == "a2"


_apps = st.sampled_from(["web", "db", ""])
_terms = st.lists(st.builds(term, st.sampled_from(["web", "db", None]), st.sampled_from([HOST, ZONE])), max_size=2).map(
    tuple
)
_pods = st.builds(
    lambda app, namespace, wants, avoids: pod("p", app, namespace=namespace, wants=wants, avoids=avoids),
    _apps,
    st.sampled_from(["default", "other"]),
    _terms,
    _terms,
)


def naive(wish: Pod, placed: list[Placed], target: Node) -> bool:
    """The rules as they are written down, Pod by Pod and node by node."""

    def selects(entry: dict[str, Any], owner: Pod, other: Pod) -> bool:
        wanted = entry["labelSelector"].get("matchLabels", {})
        return owner.metadata.namespace == other.metadata.namespace and all(
            other.metadata.labels.get(k) == v for k, v in wanted.items()
        )

    def together(key: str, one: Node, other: Node) -> bool:
        return key in one.metadata.labels and one.metadata.labels[key] == other.metadata.labels.get(key)

    affinity = wish.spec.affinity or {}
    wants, avoids = affinity["podAffinity"][REQUIRED], affinity["podAntiAffinity"][REQUIRED]
    friends = [p for p in placed if wants and all(selects(t, wish, p.pod) for t in wants)]
    keyed = any(t["topologyKey"] in NODES[p.node].metadata.labels for p in friends for t in wants)
    for entry in wants:
        if entry["topologyKey"] not in target.metadata.labels:
            return False
        near = any(together(entry["topologyKey"], NODES[p.node], target) for p in friends)
        alone = not keyed and all(selects(t, wish, wish) for t in wants)
        if not near and not alone:
            return False
    for where_, other in placed:
        if any(selects(t, wish, other) and together(t["topologyKey"], NODES[where_], target) for t in avoids):
            return False
        theirs = (other.spec.affinity or {})["podAntiAffinity"][REQUIRED]
        if any(selects(t, other, wish) and together(t["topologyKey"], NODES[where_], target) for t in theirs):
            return False
    return True


@settings(max_examples=300, deadline=None)
@given(_pods, st.lists(st.builds(Placed, st.sampled_from(sorted(NODES)), _pods), max_size=5))
def test_it_is_as_the_rules_say(wish: Pod, placed: list[Placed]) -> None:
    assert where(wish, *placed) == {name for name, n in NODES.items() if naive(wish, placed, n)}


def spread(skew: int = 1, key: str = ZONE, **more: Any) -> dict[str, Any]:
    labels = {"matchLabels": {"app": "web"}}
    return {"maxSkew": skew, "topologyKey": key, "whenUnsatisfiable": "DoNotSchedule", "labelSelector": labels} | more


def spread_refusals(wish: Pod, *placed: Placed) -> dict[str, Refusal | None]:
    rule = Spread(wish, footprint(wish), NODES, loads_of(*placed))
    return {name: rule.refusal(n) for name, n in NODES.items()}


A, B = "a", "b"


@pytest.mark.parametrize(
    ("constraint", "counts", "fits"),
    [
        (spread(), (0, 0), {A, B}),
        (spread(), (1, 0), {B}),
        (spread(), (1, 1), {A, B}),
        (spread(2), (1, 0), {A, B}),
        (spread(2), (2, 0), {B}),
        (spread(whenUnsatisfiable="ScheduleAnyway"), (9, 0), {A, B, ""}),
        (spread(labelSelector={"matchLabels": {"app": "none"}}), (9, 0), {A, B}),  # it counts nobody, not itself
        (spread(minDomains=3), (1, 1), set()),
        (spread(minDomains=2), (1, 1), {A, B}),
        (spread(labelSelector=None), (5, 0), {A, B}),
    ],
)
def test_a_domain_may_not_be_too_far_ahead(constraint: dict[str, Any], counts: tuple[int, int], fits: set[str]) -> None:
    placed = [Placed("a1", pod("w", "web"))] * counts[0] + [Placed("b1", pod("w", "web"))] * counts[1]
    found = spread_refusals(pod("p", "web", topology_spread_constraints=[constraint]), *placed)
    assert {NODES[name].metadata.labels.get(ZONE, "") for name, against in found.items() if against is None} == fits
    if constraint["whenUnsatisfiable"] == "DoNotSchedule":
        assert found["lost"] == UNLABELED
        assert {against for name, against in found.items() if name != "lost"} <= {SKEWED, None}


def test_what_ends_and_what_is_elsewhere_does_not_count() -> None:
    ending = pod("w", "web")
    ending.metadata.deletion_timestamp = "2026-01-01T00:00:00Z"
    placed = (Placed("a1", ending), Placed("a1", pod("w", "web", namespace="other")), Placed("lost", pod("w", "web")))
    found = spread_refusals(pod("p", "web", topology_spread_constraints=[spread()]), *placed)
    assert found == {"a1": None, "a2": None, "b1": None, "lost": UNLABELED}


def test_a_domain_that_is_closed_to_the_pod_does_not_hold_it_back() -> None:
    placed = (Placed("a1", pod("w", "web")),)
    for policy, fits in (("Honor", True), ("Ignore", False)):
        constraints = [spread(nodeAffinityPolicy=policy)]
        wish = pod("p", "web", topology_spread_constraints=constraints, node_selector={ZONE: "a"})
        assert spread_refusals(wish, *placed)["a2"] == (None if fits else SKEWED)


def test_a_deployment_fills_the_domains_in_turn() -> None:
    loads = Loads()
    for number in range(6):
        one = pod(str(number), "web", topology_spread_constraints=[spread()])
        chosen = decide(one, footprint(one), NODES, loads, NAMESPACES.__getitem__).node
        assert chosen is not None
        loads.place(one.metadata.uid, chosen, footprint(one))
        assert abs(loads["a1"].pods + loads["a2"].pods - loads["b1"].pods) <= 1
