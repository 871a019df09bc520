"""Who owns what after updates and applies: the laws, and cases that are easy to get wrong."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinstack.api.fieldsets.checking import ShapeError, check_shape
from twinstack.api.fieldsets.comparison import compare, fields_of
from twinstack.api.fieldsets.lastapplied import LAST_APPLIED, applied_by_kubectl
from twinstack.api.fieldsets.managers import (
    ANCIENT,
    Conflicts,
    Kind,
    ManagedFieldsError,
    Managers,
    applied,
    applier,
    conflicting_paths,
    created,
    decode,
    encode,
    updated,
    updater,
)
from twinstack.api.fieldsets.merging import merge, remove
from twinstack.api.fieldsets.sets import difference, has, intersection, path_text, paths
from twinstack.api.fieldsets.topology import topology_of
from twinstack.api.schema import check, zero_object

JSON = dict[str, Any]

DEPLOYMENT = "apps.v1.Deployment"
SERVICE = Kind(topology_of("core.v1.Service"), "v1", {"f:status": {}})
KIND = Kind(topology_of(DEPLOYMENT), "apps/v1", {"f:status": {}})
ALPHA, BETA = applier("alpha"), applier("beta")
NOW, LATER = "2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z"


def partly(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[JSON]:
    return st.fixed_dictionaries({}, optional=fields)


WORDS = st.sampled_from(["1", "2"])
CONTAINERS = st.lists(
    st.fixed_dictionaries(
        {"name": st.sampled_from(["main", "side", "third"]), "image": WORDS},
        optional={
            "args": st.lists(WORDS, min_size=1, max_size=2),
            "env": st.lists(
                st.fixed_dictionaries({"name": st.sampled_from(["A", "B"])}, optional={"value": WORDS}),
                min_size=1,
                max_size=2,
                unique_by=lambda item: item["name"],
            ),
            "ports": st.just([{"containerPort": 80, "protocol": "TCP"}]),
        },
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda item: item["name"],
)
DEPLOYMENTS = st.builds(
    lambda meta, spec, template: {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "a", **meta},
        "spec": {**spec, "template": {"metadata": {}, "spec": template}},
    },
    partly(
        labels=partly(a=WORDS, b=WORDS),
        finalizers=st.lists(st.sampled_from(["x/1", "x/2"]), min_size=1, unique=True),
    ),
    partly(replicas=st.integers(1, 2), selector=st.builds(lambda word: {"matchLabels": {"a": word}}, WORDS)),
    partly(
        containers=CONTAINERS,
        tolerations=st.builds(lambda word: [{"key": word}], WORDS),
        nodeSelector=st.builds(lambda word: {"a": word}, WORDS),
    ),
)


def stored(obj: JSON) -> JSON:
    return check(obj, DEPLOYMENT)[0]


def apply_to(
    live: JSON, config: JSON, managers: Managers, who: Any, *, force: bool = True, now: str = NOW
) -> tuple[JSON, Managers]:
    merged, after = applied(live, config, managers, who, now, KIND, force=force)
    return stored(merged), after


def started(config: JSON) -> tuple[JSON, Managers]:
    return apply_to(zero_object(DEPLOYMENT), config, {}, ALPHA)


@given(DEPLOYMENTS, DEPLOYMENTS)
def test_comparisons_mirror_each_other(one: JSON, other: JSON) -> None:
    there, back = compare(one, other, KIND.topology), compare(other, one, KIND.topology)
    assert (there.added, there.removed, there.modified) == (back.removed, back.added, back.modified)
    assert compare(one, one, KIND.topology) == ({}, {}, {})


@given(DEPLOYMENTS, DEPLOYMENTS)
def test_a_merge_says_all_that_the_configuration_says(live: JSON, config: JSON) -> None:
    before = copy.deepcopy((live, config))
    merged = merge(live, config, KIND.topology)
    assert (live, config) == before
    assert merge(merged, config, KIND.topology) == merged
    said = fields_of(config, KIND.topology)
    found = compare(config, merged, KIND.topology)
    assert not intersection(said, found.modified)
    assert not found.removed


@given(DEPLOYMENTS)
def test_what_is_removed_is_gone(obj: JSON) -> None:
    fields = fields_of(obj, KIND.topology)
    left = fields_of(remove(obj, fields, KIND.topology), KIND.topology)
    assert not intersection(fields, left) or all(path[-1:] in (("f:template",), ("f:spec",)) for path in paths(left))


@settings(max_examples=60)
@given(DEPLOYMENTS, DEPLOYMENTS)
def test_applying_again_changes_nothing(first: JSON, config: JSON) -> None:
    live, managers = started(first)
    obj, managers = apply_to(live, config, managers, BETA)
    again, same = apply_to(obj, config, managers, BETA, force=False, now=LATER)
    assert again == obj
    assert {key: owned.fields for key, owned in same.items()} == {key: each.fields for key, each in managers.items()}


@settings(max_examples=60)
@given(DEPLOYMENTS, DEPLOYMENTS)
def test_force_takes_what_differs_and_shares_what_is_equal(first: JSON, config: JSON) -> None:
    live, managers = started(first)
    obj, after = apply_to(live, config, managers, BETA)
    mine = fields_of(config, KIND.topology)
    for path in paths(after[BETA].fields):
        assert has(mine, path)
    changed = compare(live, obj, KIND.topology)
    assert ALPHA not in after or not intersection(after[ALPHA].fields, changed.taken())


@settings(max_examples=60)
@given(DEPLOYMENTS, DEPLOYMENTS)
def test_without_force_it_is_the_same_or_a_conflict(first: JSON, config: JSON) -> None:
    live, managers = started(first)
    try:
        peaceful = apply_to(live, config, managers, BETA, force=False)
    except Conflicts as conflicts:
        disputed = conflicts.found[ALPHA]
        assert disputed == intersection(managers[ALPHA].fields, disputed)
        return
    assert peaceful == apply_to(live, config, managers, BETA)


@settings(max_examples=60)
@given(DEPLOYMENTS, DEPLOYMENTS)
def test_one_manager_has_exactly_what_it_applied_last(first: JSON, config: JSON) -> None:
    live, managers = started(first)
    obj, after = apply_to(live, config, managers, ALPHA, force=False)
    fresh, managers = started(config)

    def sort(containers: list[JSON] | None) -> list[JSON]:
        return sorted(containers or [], key=lambda item: str(item["name"]))

    for each in (obj, fresh):
        for container in each["spec"]["template"]["spec"].get("containers") or []:
            container["env"] = sort(container.get("env"))
        each["spec"]["template"]["spec"]["containers"] = sort(each["spec"]["template"]["spec"].get("containers"))
        each["metadata"]["finalizers"] = sorted(each["metadata"].get("finalizers") or [])
    assert obj == fresh
    assert after.keys() == managers.keys()
    assert after[ALPHA].fields == managers[ALPHA].fields


@given(DEPLOYMENTS, DEPLOYMENTS)
def test_an_update_owns_what_it_changed_and_nobody_what_is_gone(old: JSON, new: JSON) -> None:
    old, new = stored(old), stored(new)
    _, managers = started(old)
    who = updater("editor", "apps/v1")
    after = updated(old, new, managers, who, NOW, KIND)
    changed = compare(old, new, KIND.topology)
    for owned in after.values():
        assert not intersection(owned.fields, changed.removed)
    mine = after[who].fields if who in after else {}
    assert not difference(mine, changed.taken())
    if ALPHA in after:
        assert not intersection(after[ALPHA].fields, mine)
    assert decode(encode(after)) == after
    if not any(changed):
        assert after is managers


@given(DEPLOYMENTS)
def test_a_creation_is_an_update_of_nothing(new: JSON) -> None:
    nothing, new, who = zero_object(DEPLOYMENT), stored(new), updater("creator", "apps/v1")
    assert created(nothing, new, who, NOW, KIND) == updated(nothing, new, {}, who, NOW, KIND)


def service(**spec: Any) -> JSON:
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": spec}


def test_a_create_names_what_holds_new_fields() -> None:
    new = service(ports=[{"port": 80, "protocol": "TCP"}], selector={"app": "x"}) | {"status": {"loadBalancer": {}}}
    new["metadata"]["labels"] = {"app": "x"}
    after = updated(zero_object("core.v1.Service"), new, {}, updater("", "v1"), NOW, SERVICE)
    assert encode(after) == [
        {
            "manager": "unknown",
            "operation": "Update",
            "apiVersion": "v1",
            "time": NOW,
            "fieldsType": "FieldsV1",
            "fieldsV1": {
                "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
                "f:spec": {
                    "f:ports": {
                        ".": {},
                        'k:{"port":80,"protocol":"TCP"}': {".": {}, "f:port": {}, "f:protocol": {}},
                    },
                    "f:selector": {},
                },
            },
        }
    ]


def test_a_port_without_protocol_is_owned_under_tcp() -> None:
    _, managers = applied(
        zero_object("core.v1.Service"), service(ports=[{"port": 53}]), {}, ALPHA, NOW, SERVICE, force=False
    )
    assert managers[ALPHA].fields == {
        "f:spec": {"f:ports": {'k:{"port":53,"protocol":"TCP"}': {".": {}, "f:port": {}}}}
    }


def test_a_field_that_somebody_else_owns_stays_when_its_manager_drops_it() -> None:
    live, managers = applied(
        zero_object("core.v1.Service"), service(type="NodePort"), {}, ALPHA, NOW, SERVICE, force=False
    )
    live, managers = applied(live, service(type="NodePort"), managers, BETA, NOW, SERVICE, force=False)
    live, managers = applied(live, service(), managers, ALPHA, NOW, SERVICE, force=False)
    assert live["spec"]["type"] == "NodePort"
    live, managers = applied(live, service(), managers, BETA, NOW, SERVICE, force=False)
    assert not (live.get("spec") or {}).get("type")


def test_more_than_ten_updaters_become_one() -> None:
    managers: Managers = {}
    live = service()
    for number in range(12):
        new = copy.deepcopy(live)
        new["metadata"].setdefault("labels", {})[f"l{number}"] = "x"
        managers = updated(live, new, managers, updater(f"m{number}", "v1"), f"2026-01-01T00:00:{number:02}Z", SERVICE)
        live = new
    assert len(managers) == 10
    ancient = managers[updater(ANCIENT, "v1")]
    assert set(ancient.fields["f:metadata"]["f:labels"]) == {".", "f:l0", "f:l1", "f:l2"}
    assert ancient.time == "2026-01-01T00:00:02Z"


def test_conflicts_name_managers_and_fields() -> None:
    live, managers = applied(
        zero_object("core.v1.Service"),
        service(type="NodePort", sessionAffinity="None"),
        {},
        ALPHA,
        NOW,
        SERVICE,
        force=False,
    )
    with pytest.raises(Conflicts) as caught:
        applied(live, service(type="ClusterIP", sessionAffinity="ClientIP"), managers, BETA, NOW, SERVICE, force=False)
    [(manager, disputed)] = conflicting_paths(caught.value.found)
    assert manager == ALPHA
    assert list(map(path_text, disputed)) == [".spec.sessionAffinity", ".spec.type"]


def test_kubectl_owns_what_its_annotation_says() -> None:
    applied_before = service(type="NodePort")
    live = copy.deepcopy(applied_before)
    live["metadata"]["annotations"] = {LAST_APPLIED: json.dumps(applied_before)}
    managers = updated(
        zero_object("core.v1.Service"), live, {}, updater("kubectl-client-side-apply", "v1"), NOW, SERVICE
    )
    config = service(type="ClusterIP")
    with pytest.raises(Conflicts):
        applied(live, config, managers, applier("kubectl"), NOW, SERVICE, force=False)
    merged, _ = applied_by_kubectl(live, config, managers, applier("kubectl"), NOW, SERVICE, force=False)
    assert merged["spec"]["type"] == "ClusterIP"
    assert json.loads(merged["metadata"]["annotations"][LAST_APPLIED]) == config
    edited = copy.deepcopy(live)
    edited["spec"]["type"] = "LoadBalancer"
    managers = updated(live, edited, managers, updater("kubectl-edit", "v1"), NOW, SERVICE)
    with pytest.raises(Conflicts):
        applied_by_kubectl(edited, config, managers, applier("kubectl"), NOW, SERVICE, force=False)


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ({"nosuch": 1}, ".spec.nosuch: field not declared in schema"),
        ("text", ".spec: expected map, got &{text}"),
        ({"ports": {}}, ".spec.ports: expected list, got &{map[]}"),
        ({"ports": [{"port": 80}, {"port": 80}]}, '.spec.ports: duplicate entries for key [port=80,protocol="TCP"]'),
        ({"type": 4}, ".spec.type: expected string, got &value.valueUnstructured{Value:4}"),
        ({"clusterIPs": [[]]}, ".spec.clusterIPs[0]: expected string, got &value.valueUnstructured{Value:[]}"),
        ({"ports": [None]}, ".spec.ports: element 0: associative list with keys may not have a null element"),
    ],
)
def test_shapes_that_are_refused(spec: Any, problem: str) -> None:
    with pytest.raises(ShapeError) as caught:
        check_shape({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": spec}, SERVICE.topology)
    assert str(caught.value) == problem


@pytest.mark.parametrize(
    "entry",
    [
        {"operation": "Other", "apiVersion": "v1", "fieldsType": "FieldsV1"},
        {"operation": "Apply", "fieldsType": "FieldsV1"},
        {"operation": "Apply", "apiVersion": "v1"},
        {"operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV2"},
        {"operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:a": 5}},
    ],
)
def test_entries_that_say_nothing(entry: JSON) -> None:
    with pytest.raises(ManagedFieldsError):
        decode([entry])
