"""Applied configurations of any shape, against any object: an answer or a refusal, never a failure of ours."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from twinstack.api.errors import StatusError
from twinstack.api.resources import resource
from twinstack.api.schema import check
from twinstack.server.fieldmanagers import Application, settles, track_creation, track_update
from twinstack.server.messages import Route
from twinstack.server.options import WriteOptions

JSON = dict[str, Any]

SERVICES = resource("", "services")
ROUTE = Route(SERVICES, "default", "a")
NOW, LATER = "2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z"
NAMES = st.sampled_from(
    [
        "spec",
        "metadata",
        "status",
        "ports",
        "port",
        "protocol",
        "name",
        "labels",
        "annotations",
        "finalizers",
        "x",
        "selector",
        "clusterIPs",
        "conditions",
        "type",
        "managedFields",
        "ownerReferences",
        "uid",
        "loadBalancer",
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 99) | st.floats(allow_nan=False) | st.sampled_from(["a", "TCP", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=12,
)


def service(**spec: Any) -> JSON:
    body = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"ports": [{"port": 80}]} | spec}
    return check(body, SERVICES.schema)[0]


def created(obj: JSON, manager: str = "me") -> JSON:
    track_creation(SERVICES, obj, None, WriteOptions(field_manager=manager), NOW)
    return obj


@given(
    st.dictionaries(NAMES, VALUES, max_size=4),
    st.dictionaries(NAMES, VALUES, max_size=4),
    st.sampled_from(["kubectl", "me"]),
    st.booleans(),
)
def test_any_configuration(spec: JSON, more: JSON, manager: str, force: bool) -> None:
    live = created(service(type="NodePort", selector={"a": "b"}))
    before = copy.deepcopy(live)
    config = {"spec": spec} | more | {"apiVersion": "v1", "kind": "Service"}
    try:
        application = Application(SERVICES, config, WriteOptions(field_manager=manager, force=force))
        new, entries = application.update(ROUTE, live, NOW)
        assert check(new, SERVICES.schema)[0] == new
        assert all(entry["fieldsV1"] for entry in entries)
        application.create(NOW)
    except StatusError as error:
        refusals = [error]
    else:
        refusals = []
    assert all(refusal.code in (400, 409) or "typed" in refusal.message for refusal in refusals)
    assert live == before


@given(st.dictionaries(NAMES, VALUES, max_size=2) | st.just({}), st.lists(st.dictionaries(NAMES, VALUES), max_size=2))
def test_any_entries(entry: JSON, more: list[JSON]) -> None:
    live = created(service())
    entry = {"manager": "x", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": entry}
    new = service()
    track_update(ROUTE, new, live, [entry, *more], WriteOptions(field_manager="you"), LATER)
    kept = new["metadata"].get("managedFields")
    assert kept == live["metadata"]["managedFields"] if entry["fieldsV1"] or more else not kept


def test_times_alone_are_no_change() -> None:
    old = created(service())
    new = copy.deepcopy(old)
    new["metadata"]["managedFields"][0]["time"] = LATER
    assert settles(new, old)
    new["spec"]["type"] = "NodePort"
    assert not settles(new, old)
    other = created(service(), manager="you")
    assert not settles(other, old)
