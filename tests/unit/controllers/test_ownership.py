from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinstack.api.kinds import CONFIG_MAPS
from twinstack.api.meta import Object, ObjectMeta, OwnerReference
from twinstack.controllers.ownership import (
    FOREGROUND,
    ORPHAN,
    Owner,
    Verdict,
    blocks,
    deletion_policy,
    forgetting,
    is_waiting,
    judge,
    propagation,
    unblocking,
    without_finalizer,
)
from twinstack.controllers.ownershipgraph import Graph, matters

DELETED = "2026-01-01T00:00:00Z"


def references(*uids: str) -> list[OwnerReference]:
    """Owners, of which those in capitals are waited for."""
    return [
        OwnerReference(api_version="v1", kind="ConfigMap", name=uid, uid=uid, block_owner_deletion=uid.isupper())
        for uid in uids
    ]


def obj(uid: str, *owners: str, deleted: bool = False, finalizers: tuple[str, ...] = ()) -> Object:
    meta = ObjectMeta(
        name=uid,
        namespace="default",
        uid=uid,
        resource_version="7",
        owner_references=references(*owners),
        finalizers=list(finalizers),
        deletion_timestamp=DELETED if deleted else None,
    )
    return Object(api_version="v1", kind="ConfigMap", metadata=meta)


@pytest.mark.parametrize("states", list(itertools.product(Owner, repeat=2)))
def test_an_object_lives_while_one_of_its_owners_does(states: tuple[Owner, Owner]) -> None:
    verdict = judge(references("a", "b"), dict(zip("ab", states, strict=True)))
    gone = tuple(uid for uid, state in zip("ab", states, strict=True) if state is not Owner.PRESENT)
    if len(gone) == 2:
        assert verdict == Verdict(delete=True, waited=Owner.WAITING in states)
    else:
        assert verdict == Verdict(forget=gone)
    assert judge([], {}) == Verdict(), "without owners nothing is judged"


@pytest.mark.parametrize("finalizers", [(), ("x/y",), (FOREGROUND,), ("x/y", ORPHAN)])
@pytest.mark.parametrize("deleted", [False, True])
@pytest.mark.parametrize("owned", [False, True])
def test_who_has_a_place_in_the_graph(finalizers: tuple[str, ...], deleted: bool, owned: bool) -> None:
    made = obj("x", *(["o"] if owned else []), deleted=deleted, finalizers=finalizers)
    waits = deleted and (FOREGROUND in finalizers or ORPHAN in finalizers)
    assert is_waiting(made) == waits
    assert matters(made) == (waits or owned)
    assert deletion_policy(made) == next((f for f in finalizers if f != "x/y"), "")


@pytest.mark.parametrize(
    ("finalizers", "waited", "has_dependents", "policy"),
    [
        ((), False, True, "Background"),
        ((), True, True, "Foreground"),
        ((), True, False, "Background"),
        ((FOREGROUND,), False, False, "Foreground"),
        ((ORPHAN,), False, True, "Orphan"),
        ((ORPHAN,), True, True, "Foreground"),
    ],
)
def test_how_a_dependent_is_deleted(
    finalizers: tuple[str, ...], waited: bool, has_dependents: bool, policy: str
) -> None:
    made = obj("x", "o", finalizers=finalizers)
    assert propagation(made, Verdict(delete=True, waited=waited), has_dependents=has_dependents) == policy


def test_patches_are_void_when_the_object_has_changed() -> None:
    made = obj("x", "a", "B", finalizers=(ORPHAN, "theirs"))
    guard = {"uid": "x", "resourceVersion": "7"}
    assert (blocks(made, "a"), blocks(made, "B"), blocks(made, "c")) == (False, True, False)
    kept = {"apiVersion": "v1", "kind": "ConfigMap", "name": "B", "uid": "B", "blockOwnerDeletion": True}
    assert forgetting(made, ("a",)) == {"metadata": guard | {"ownerReferences": [kept]}}
    assert forgetting(made, ("a", "B")) == {"metadata": guard | {"ownerReferences": None}}
    unblocked = unblocking(made)["metadata"]["ownerReferences"]
    assert [ref["blockOwnerDeletion"] for ref in unblocked] == [False, False]
    assert without_finalizer(made, ORPHAN) == {"metadata": guard | {"finalizers": ["theirs"]}}
    assert without_finalizer(obj("x", finalizers=(ORPHAN,)), ORPHAN) == {"metadata": guard | {"finalizers": None}}


def test_what_each_change_brings() -> None:
    graph = Graph()
    assert graph.put(CONFIG_MAPS, obj("owner")) == set(), "nobody's, waiting for nobody"
    assert graph.nodes == {}
    assert graph.put(CONFIG_MAPS, obj("d", "OWNER")) == {"d"}
    assert graph.put(CONFIG_MAPS, obj("d", "OWNER")) == set(), "no news"
    assert graph.put(CONFIG_MAPS, obj("OWNER", deleted=True, finalizers=(FOREGROUND,))) == {"OWNER"}
    assert graph.put(CONFIG_MAPS, obj("d", "OWNER", deleted=True)) == set(), "it goes, but is not yet gone"
    assert graph.put(CONFIG_MAPS, obj("d")) == {"d", "OWNER"}, "its owner waited for it"
    assert graph.put(CONFIG_MAPS, obj("d", "OWNER")) == {"d"}
    assert graph.remove("d", references("OWNER")) == {"OWNER"}
    assert graph.put(CONFIG_MAPS, obj("e", "OWNER")) == {"e"}
    assert graph.remove("OWNER", []) == {"e"}
    assert graph.owned_by("", "ConfigMap") == ["e"]
    assert graph.owned_by("apps", "ConfigMap") == []


@given(
    st.lists(
        st.tuples(st.sampled_from("abcD"), st.booleans(), st.sets(st.sampled_from("abcDE"), max_size=3), st.booleans()),
        max_size=30,
    )
)
def test_dependents_are_those_of_the_last_word(steps: list[tuple[str, bool, set[str], bool]]) -> None:
    graph = Graph()
    model: dict[str, Object] = {}
    for uid, gone, owners, waiting in steps:
        if gone:
            last = model.pop(uid, obj(uid))
            concerned = graph.remove(uid, last.metadata.owner_references)
            named = {other for other, o in model.items() if uid in {r.uid for r in o.metadata.owner_references}}
            assert named <= concerned
        else:
            model[uid] = obj(uid, *sorted(owners), deleted=waiting, finalizers=(ORPHAN,) if waiting else ())
            graph.put(CONFIG_MAPS, model[uid])
        assert graph.nodes.keys() == {uid for uid, o in model.items() if matters(o)}
        for owner in "abcDE":
            expected = {other for other, o in model.items() if owner in {r.uid for r in o.metadata.owner_references}}
            assert {node.obj.metadata.uid for node in graph.dependents(owner)} == expected
            assert graph.has_dependents(owner) == bool(expected)
