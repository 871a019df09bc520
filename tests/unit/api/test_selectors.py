"""Label and field selectors: grammar, refusals, match."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinstack.api import meta
from twinstack.api.errors import StatusError
from twinstack.api.resources import resource
from twinstack.api.selectors import FieldSelector, LabelSelector, Operator, Requirement, selectable_fields

PODS, NODES, SERVICES = resource("", "pods"), resource("", "nodes"), resource("", "services")
CONFIG_MAPS, EVENTS = resource("", "configmaps"), resource("", "events")


def matches(text: str, **labels: str) -> bool:
    return LabelSelector.parse(text).matches(labels)


@pytest.mark.parametrize(
    "text",
    ["", "app", "app=a", "app==a", " app = a ", "app in (a)", "app in (b,a)", "app in (a, b)", "!tier", "tier!=x",
     "tier notin (x)", "n>2", "n<4", "app,n", "app=a,!tier", "app in (,a)", "app notin ()"],
)  # fmt: skip
def test_selectors_that_match(text: str) -> None:
    assert matches(text, app="a", n="3")


@pytest.mark.parametrize(
    "text",
    ["app=b", "app!=a", "app in (b)", "app notin (a)", "!app", "tier", "tier=", "n>3", "n<3", "app>1", "tier>1",
     "app=a,app=b", "app in ()", "app="],
)  # fmt: skip
def test_selectors_that_do_not_match(text: str) -> None:
    assert not matches(text, app="a", n="3")


def test_empty_values() -> None:
    assert matches("app=", app="")
    assert matches("app in (,)", app="")
    assert matches("app in (a,,b)", app="")
    assert not matches("app in (a,,b)", app="c")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("(app)", "found '(', expected: !, identifier, or 'end of string'"),
        ("=a", "found '=', expected: !, identifier, or 'end of string'"),
        ("app=a,", "found '', expected: identifier after ','"),
        ("app=a,,b", "found ',', expected: identifier after ','"),
        ("app=a,=b", "found '=', expected: identifier after ','"),
        ("app==a=b", "found '=', expected: ',' or 'end of string'"),
        ("app=a b", "found 'b', expected: ',' or 'end of string'"),
        ("!", "unable to parse requirement: found '', expected: identifier"),
        ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
        ("a in b", "unable to parse requirement: found 'b' expected: '('"),
        ("a notin (b", "unable to parse requirement: found '', expected: ',' or ')'"),
        ("a in (b c)", "unable to parse requirement: found 'c', expected: ',' or ')'"),
        ("a in (=)", "unable to parse requirement: found '=', expected: ',', ')' or identifier"),
        ("a=(", "unable to parse requirement: found '(', expected: identifier"),
    ],
)  # fmt: skip
def test_label_selectors_that_are_refused(text: str, message: str) -> None:
    with pytest.raises(StatusError) as caught:
        LabelSelector.parse(text)
    assert (caught.value.code, caught.value.message) == (400, message)


def test_bad_keys_and_numbers() -> None:
    with pytest.raises(StatusError) as caught:
        LabelSelector.parse("n>x")
    detail = "for 'Gt', 'Lt' operators, the value must be an integer"
    assert caught.value.message == f'unable to parse requirement: values[0]: Invalid value: "x": {detail}'
    with pytest.raises(StatusError) as caught:
        LabelSelector.parse("x" * 64)
    detail = "name part must be no more than 63 bytes"
    assert caught.value.message == f'unable to parse requirement: <nil>: Invalid value: "{"x" * 64}": {detail}'


def test_bad_values_name_their_key() -> None:
    with pytest.raises(StatusError, match=r'values\[0\]\[app\]: Invalid value: "a;b": a valid label must be'):
        LabelSelector.parse("app=a;b")


keys = st.sampled_from(["a", "b", "example.com/c"])
values = st.sampled_from(["", "x", "y", "1", "22"])
requirements = st.one_of(
    st.builds(
        Requirement, keys, st.sampled_from([Operator.IN, Operator.NOT_IN]), st.frozensets(values, min_size=1)
    ),
    st.builds(Requirement, keys, st.sampled_from([Operator.EXISTS, Operator.DOES_NOT_EXIST]), st.just(frozenset())),
    st.builds(
        Requirement, keys, st.sampled_from([Operator.GREATER, Operator.LESS]), st.sampled_from(["1", "9"]).map(
            lambda value: frozenset({value})
        ),
    ),
)  # fmt: skip


def text_of(requirement: Requirement) -> str:
    key, operator, found = requirement
    inside = ",".join(sorted(found))
    return {
        Operator.IN: f"{key} in ({inside})", Operator.NOT_IN: f"{key} notin ({inside})", Operator.EXISTS: key,
        Operator.DOES_NOT_EXIST: f"!{key}", Operator.GREATER: f"{key}>{inside}", Operator.LESS: f"{key}<{inside}",
    }[operator]  # fmt: skip


@given(st.lists(requirements, max_size=3), st.dictionaries(keys, values))
def test_text_and_requirements_select_alike(wanted: list[Requirement], labels: dict[str, str]) -> None:
    # `in ()` cannot hold the empty value alone
    wanted = [r for r in wanted if r.operator not in (Operator.IN, Operator.NOT_IN) or r.values != {""}]
    parsed = LabelSelector.parse(",".join(map(text_of, wanted)))
    assert parsed.requirements == tuple(wanted)
    assert parsed.matches(labels) == all(r.matches(labels) for r in wanted)


def test_objects() -> None:
    assert not LabelSelector.from_object(None).matches({})
    assert LabelSelector.from_object(meta.LabelSelector()).matches({})
    selector = LabelSelector.from_object(
        meta.LabelSelector(
            match_labels={"app": "a"},
            match_expressions=[meta.LabelSelectorRequirement(key="tier", operator="NotIn", values=["x"])],
        )
    )
    assert selector.matches({"app": "a"})
    assert not selector.matches({"app": "a", "tier": "x"})
    assert LabelSelector.from_labels({}).matches({"any": "thing"})


POD = {
    "metadata": {"name": "p", "namespace": "n"},
    "spec": {"nodeName": "node-1", "hostNetwork": True},
    "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]},
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("metadata.name=p", True), ("metadata.name==p", True), ("metadata.name!=p", False), ("metadata.name=a,", False),
        ("", True), ("spec.nodeName=node-1,status.phase=Running", True), ("spec.host=node-1", True),
        ("spec.hostNetwork=true", True), ("status.podIP=10.0.0.1", True), ("status.podIPs=10.0.0.1", False),
        ("spec.schedulerName=", True), ("spec.nodeName!=", True), ("metadata.namespace=n", True),
    ],
)  # fmt: skip
def test_pod_fields(text: str, expected: bool) -> None:
    assert FieldSelector.parse(text, PODS).matches(selectable_fields(PODS, POD)) is expected


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (PODS, "metadata.labels=a", "field label not supported: metadata.labels"),
        (NODES, "metadata.namespace=a", "field label not supported: metadata.namespace"),
        (SERVICES, "status.phase!=Running", "field label not supported: status.phase"),
        (CONFIG_MAPS, "=x", '"" is not a known field selector: only "metadata.name", "metadata.namespace"'),
        (CONFIG_MAPS, "metadata.name", "invalid selector: 'metadata.name'; can't understand 'metadata.name'"),
        (NODES, "a in (a)", "invalid selector: 'a in (a)'; can't understand 'a in (a)'"),
        (NODES, "metadata.name=a=b", "invalid field selector: unescaped character in value: 61"),
        (NODES, r"metadata.name=a\b", r"invalid field selector: invalid escape sequence: \b"),
        (NODES, "metadata.name=a\\", "invalid field selector: invalid escape sequence: \\"),
    ],
)  # fmt: skip
def test_field_selectors_that_are_refused(kind, text: str, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(StatusError) as caught:
        FieldSelector.parse(text, kind)
    assert (caught.value.code, caught.value.message) == (400, message)


@given(st.text("a,=\\!", max_size=6))
def test_escaped_values_come_back(value: str) -> None:
    escaped = value.replace("\\", "\\\\").replace(",", "\\,").replace("=", "\\=")
    selector = FieldSelector.parse(f"metadata.name={escaped}", CONFIG_MAPS)
    assert selector.exact("metadata.name") == value
    assert selector.matches({"metadata.name": value})


def test_fields_of_other_kinds() -> None:
    assert selectable_fields(NODES, {"metadata": {"name": "n"}, "spec": {}})["spec.unschedulable"] == "false"
    event = {"metadata": {}, "involvedObject": {"kind": "Pod", "name": "p"}, "reportingComponent": "scheduler"}
    fields = selectable_fields(EVENTS, event)
    assert (fields["involvedObject.kind"], fields["source"], fields["reason"]) == ("Pod", "scheduler", "")
    new = selectable_fields(resource("events.k8s.io", "events"), {"regarding": {"name": "p"}, "type": "Normal"})
    assert (new["regarding.name"], new["type"]) == ("p", "Normal")
    assert selectable_fields(resource("apps", "replicasets"), {"status": {}})["status.replicas"] == "0"
