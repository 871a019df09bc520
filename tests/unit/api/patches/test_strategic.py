"""Strategic merge patch: keyed lists, directives, and the order of what comes out."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinstack.api.errors import StatusError
from twinstack.api.patches.merge import apply_merge_patch
from twinstack.api.patches.strategic import apply_strategic_merge

JSON = dict[str, Any]

SERVICE, POD, NODE = "core.v1.Service", "core.v1.Pod", "core.v1.Node"


def ports(*patch: JSON, old: list[JSON] | None = None, **spec: Any) -> list[Any]:
    """The port numbers after a patch of 80 and 443."""
    document = {"spec": {"ports": old or [{"port": 80, "name": "a"}, {"port": 443, "name": "b"}]}}
    result = apply_strategic_merge(document, {"spec": {"ports": list(patch)} | spec}, SERVICE)
    return [port.get("port") for port in result["spec"]["ports"]]


def refusal(document: JSON, patch: JSON, type_name: str = SERVICE) -> tuple[int, str]:
    with pytest.raises(StatusError) as caught:
        apply_strategic_merge(document, patch, type_name)
    return caught.value.code, caught.value.message


def test_keyed_lists_merge_by_key_and_new_items_stand_before_those_the_patch_does_not_name() -> None:
    document = {"spec": {"ports": [{"port": 80, "name": "a", "targetPort": 8080}, {"port": 443, "name": "b"}]}}
    patch = {"spec": {"ports": [{"port": 80, "name": "new", "targetPort": None}, {"port": 9090}]}}
    result = apply_strategic_merge(document, patch, SERVICE)["spec"]["ports"]
    assert result == [{"port": 80, "name": "new"}, {"port": 9090}, {"port": 443, "name": "b"}]


def test_equal_ports_of_two_protocols_collapse_onto_the_first() -> None:
    old = [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]
    document = {"spec": {"ports": old}}
    result = apply_strategic_merge(document, {"spec": {"ports": [{"port": 53, "name": "q"}]}}, SERVICE)
    assert result["spec"]["ports"] == [{"port": 53, "protocol": "UDP", "name": "q"}, {"port": 53, "protocol": "TCP"}]


@pytest.mark.parametrize(
    ("patch", "spec", "expected"),
    [
        ([{"port": 80, "$patch": "delete"}], {}, [443]),
        ([{"port": 99, "$patch": "delete"}], {}, [80, 443]),
        ([{"port": 80, "$patch": "delete"}, {"port": 81}], {}, [81, 443]),
        ([{"$patch": "replace"}, {"port": 7}], {}, [7]),
        ([{"port": 7}, {"$patch": "replace"}], {}, [7]),
        ([{"$patch": "replace"}], {}, []),
        ([], {}, [80, 443]),
        ([{"port": 1}], {"$setElementOrder/ports": [{"port": 1}, {"port": 443}, {"port": 80}]}, [1, 443, 80]),
        ([{"port": 1}], {"$setElementOrder/ports": [{"port": 80}, {"port": 1}]}, [80, 1, 443]),
    ],
)
def test_directives_in_lists(patch: list[JSON], spec: JSON, expected: list[int]) -> None:
    assert ports(*patch, **spec) == expected


def test_what_comes_takes_the_places_of_what_goes() -> None:
    old = [{"port": n} for n in (53, 1000, 2000, 3000)]
    gone = [{"port": n, "$patch": "delete"} for n in (1000, 2000, 3000)]
    order = {"$setElementOrder/ports": [{"port": 80}]}
    assert ports({"port": 80}, *gone, old=old, **order) == [53, 80]


def test_order_without_a_list() -> None:
    patch = {"spec": {"$setElementOrder/ports": [{"port": 2}, {"port": 1}]}}
    document = {"spec": {"ports": [{"port": 1}, {"port": 2}, {"port": 3}]}}
    result = apply_strategic_merge(document, patch, SERVICE)["spec"]["ports"]
    assert [port["port"] for port in result] == [2, 1, 3]


def test_lists_of_texts() -> None:
    document = {"metadata": {"finalizers": ["a/1", "b/2"]}}
    merged = apply_strategic_merge(document, {"metadata": {"finalizers": ["c/3", "a/1"]}}, SERVICE)
    assert set(merged["metadata"]["finalizers"]) == {"a/1", "b/2", "c/3"}
    gone = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a/1", "x"]}}
    assert apply_strategic_merge(document, gone, SERVICE)["metadata"]["finalizers"] == ["b/2"]
    node = {"spec": {"podCIDRs": ["10.0.0.0/24"]}}
    patch = {"spec": {"podCIDRs": ["fd00::/64"]}}
    assert set(apply_strategic_merge(node, patch, NODE)["spec"]["podCIDRs"]) == {"10.0.0.0/24", "fd00::/64"}
    atomic = {"spec": {"clusterIPs": ["10.96.0.1"]}}
    assert apply_strategic_merge(atomic, {"spec": {"clusterIPs": ["fd00::1"]}}, SERVICE) == {
        "spec": {"clusterIPs": ["fd00::1"]}
    }


def test_maps() -> None:
    document = {"spec": {"selector": {"a": "1", "b": "2"}, "type": "NodePort"}}
    patch = {"spec": {"selector": {"a": None, "c": "3"}}}
    assert apply_strategic_merge(document, patch, SERVICE)["spec"]["selector"] == {"b": "2", "c": "3"}
    replaced = {"spec": {"selector": {"$patch": "replace", "x": "y"}}}
    assert apply_strategic_merge(document, replaced, SERVICE)["spec"]["selector"] == {"x": "y"}
    assert apply_strategic_merge(document, {"spec": {"$patch": "delete"}}, SERVICE) == {"spec": {}}
    assert apply_strategic_merge(document, {"spec": {"$retainKeys": ["type"]}}, SERVICE) == {
        "spec": {"type": "NodePort"}
    }


def test_deep_merge_of_a_pod_by_two_keys() -> None:
    document = {"spec": {"containers": [{"name": "a", "env": [{"name": "X", "value": "1"}]}, {"name": "b"}]}}
    patch = {"spec": {"containers": [{"name": "a", "env": [{"name": "Y", "value": "2"}], "image": "i"}]}}
    containers = apply_strategic_merge(document, patch, POD)["spec"]["containers"]
    (first,) = [container for container in containers if container["name"] == "a"]
    assert first["image"] == "i"
    assert {variable["name"] for variable in first["env"]} == {"X", "Y"}


@pytest.mark.parametrize(
    ("patch", "code", "message"),
    [
        ({"spec": {"$patch": "merge", "type": "x"}}, 500, "unknown patch type: merge in map: map[$patch:merge type:x]"),
        ({"spec": {"ports": [{"name": "n"}]}}, 500, "map: map[name:n] does not contain declared merge key: port"),
        ({"spec": {"ports": [{"$patch": "delete"}]}}, 500,
         "map: map[$patch:delete] does not contain declared merge key: port"),
        ({"spec": {"ports": [{"$patch": "no", "port": 1}]}}, 500,
         "unknown patch type: no in map: map[$patch:no port:1]"),
        ({"spec": {"ports": [80]}}, 500, "list element types are not identical: [[map[name:a port:80]] [80]]"),
        ({"spec": {"ports": [[]]}}, 500, "list element types are not identical: [[map[name:a port:80]] [[]]]"),
        ({"spec": {"$retainKeys": "ports"}}, 400, "invalid patch format of retainKeys"),
        ({"spec": {"$retainKeys": ["ports"], "type": "x"}}, 400, "invalid patch format of retainKeys"),
        ({"spec": {"$setElementOrder": []}}, 400, "invalid patch format of setElementOrder list"),
        ({"spec": {"$deleteFromPrimitiveList": []}}, 400, "invalid patch format of primitive list"),
        ({"spec": {"$setElementOrder/nosuch": ["x"]}}, 500,
         'unable to find api field in struct ServiceSpec for the json field "nosuch"'),
        ({"spec": {"$setElementOrder/ports": [{"port": 1}], "ports": [{"port": 2}]}}, 500,
         "The order in patch list:\n[map[port:2]]\n doesn't match $setElementOrder list:\n[map[port:1]]\n"),
    ],
)  # fmt: skip
def test_mistakes(patch: JSON, code: int, message: str) -> None:
    document = {"spec": {"ports": [{"port": 80, "name": "a"}]}}
    assert refusal(document, patch) == (code, message)


keys = st.sampled_from(["80", "443", "x"])
flat = st.dictionaries(keys, st.none() | st.sampled_from(["", "1", "2"]), max_size=3)


@given(flat, flat)
def test_without_keyed_lists_and_directives_it_is_a_merge_patch(old: JSON, new: JSON) -> None:
    document = {"metadata": {"labels": {key: value or "" for key, value in old.items()}}}
    patch = {"metadata": {"labels": new}}
    assert apply_strategic_merge(document, patch, SERVICE) == apply_merge_patch(document, patch)


numbers = st.lists(st.integers(1, 6), unique=True, max_size=5)


@settings(deadline=None)
@given(numbers, numbers, numbers)
def test_the_patch_of_kubectl_apply_gives_the_wanted_list(live: list[int], wanted: list[int], extra: list[int]) -> None:
    """Three-way: what the last manifest had and the new one lacks is deleted; what others added stays."""
    others = [n for n in extra if n not in wanted and n not in live]
    document = {"spec": {"ports": [{"port": n, "name": f"p{n}"} for n in [*live, *others]]}}
    changed = [{"port": n, "name": f"new{n}"} for n in wanted]
    gone = [{"port": n, "$patch": "delete"} for n in live if n not in wanted]
    order = [{"port": n} for n in wanted]
    patch = {"spec": {"ports": changed + gone, "$setElementOrder/ports": order}}
    before = copy.deepcopy((document, patch))
    if not live + others + wanted:
        return
    result = apply_strategic_merge(document, patch, SERVICE)["spec"]["ports"]
    assert (document, patch) == before
    names = {port["port"]: port["name"] for port in result}
    assert names == {n: f"new{n}" for n in wanted} | {n: f"p{n}" for n in others}
    assert [port["port"] for port in result if port["port"] in wanted] == wanted
    assert [port["port"] for port in result if port["port"] in others] == others
