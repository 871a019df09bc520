"""CustomResourceDefinitions: what is refused, which names they get, paths into objects, versions in order."""

# ruff: noqa: E501 - one case a line

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from tests import definitions as charts

from twinstack.api.schema import check
from twinstack.server.customresources.catalogue import Catalogue, version_rank
from twinstack.server.customresources.definitions import check_definition, name_errors
from twinstack.server.customresources.jsonpath import JSONPathError, compiled, find
from twinstack.server.customresources.names import settled
from twinstack.server.strategy.customresourcedefinitions import DefinitionStrategy
from twinstack.server.tables.custom import cells, columns

JSON = dict[str, Any]

NOW, LATER = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"


def stored(crd: JSON) -> JSON:
    """As the server has it before it judges."""
    obj, findings = check(copy.deepcopy(crd), "apiextensions.v1.CustomResourceDefinition")
    assert findings == []
    DefinitionStrategy().default(obj)
    obj["status"] = {"acceptedNames": {"kind": "", "plural": ""}}
    DefinitionStrategy._remember_storage(obj)
    return obj


def changed(change: Callable[[JSON], None]) -> list[str]:
    crd = charts.workers()
    change(crd["spec"])
    return [str(error) for error in check_definition(stored(crd), None)]


def test_definitions_of_charts_are_accepted() -> None:
    for crd in charts.all_of_them():
        assert check_definition(stored(crd), None) == []


def _set(**fields: Any) -> Callable[[JSON], None]:
    return lambda spec: spec.update(fields)


def _version(**fields: Any) -> Callable[[JSON], None]:
    return lambda spec: spec["versions"][0].update(fields)


def _names(**fields: Any) -> Callable[[JSON], None]:
    return lambda spec: spec["names"].update(fields)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (_set(group=""), "spec.group: Required value"),
        (_set(group="pools"), 'spec.group: Invalid value: "pools": should be a domain with at least one dot'),
        (_set(scope=""), "spec.scope: Required value"),
        (_set(scope="Galaxy"), 'spec.scope: Unsupported value: "Galaxy": supported values: "Cluster", "Namespaced"'),
        (
            _set(preserveUnknownFields=True),
            (
                "spec.preserveUnknownFields: Invalid value: true: cannot set to true, set "
                "x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead"
            ),
        ),
        (
            _set(conversion={"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"]}}),
            (
                "spec.conversion.strategy: Forbidden: conversion by webhook is not supported by this server: objects are "
                "shown in every version as they are"
            ),
        ),
        (
            _names(listKind="WorkerPool"),
            'spec.names.listKind: Invalid value: "WorkerPool": kind and listKind may not be the same',
        ),
        (_version(schema=None), "spec.versions[0].schema.openAPIV3Schema: Required value: schemas are required"),
        (
            _version(subresources={"scale": {"specReplicasPath": ".size", "statusReplicasPath": ".status.size"}}),
            'spec.versions[0].subresources.scale.specReplicasPath: Invalid value: ".size": should be a json path under .spec',
        ),
        (
            _version(additionalPrinterColumns=[{"name": "a", "type": "text", "jsonPath": ".a"}]),
            (
                'spec.versions[0].additionalPrinterColumns[0].type: Invalid value: "text": must be one of '
                "boolean,date,integer,number,string"
            ),
        ),
        (
            _version(additionalPrinterColumns=[{"name": "a", "type": "date", "jsonPath": "a"}]),
            'spec.versions[0].additionalPrinterColumns[0].jsonPath: Invalid value: "a": must be a simple json path starting with .',
        ),
        (
            _version(selectableFields=[{"jsonPath": ".spec.nope"}]),
            (
                'spec.versions[0].selectableFields[0].jsonPath: Invalid value: ".spec.nope": is an invalid path: '
                "does not refer to a valid field"
            ),
        ),
        (
            _version(deprecationWarning="soon"),
            'spec.versions[0].deprecationWarning: Invalid value: "soon": can only be set for deprecated versions',
        ),
    ],
)
def test_what_is_refused(change: Callable[[JSON], None], expected: str) -> None:
    assert changed(change) == [expected]


@pytest.mark.parametrize(
    ("change", "ending"),
    [
        (_version(storage=False), "must have exactly one version marked as storage version"),
        (lambda spec: spec["versions"].append(copy.deepcopy(spec["versions"][0])), "must contain unique version names"),
        (_names(plural="Pools"), "regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"),
        (_names(shortNames=["x y"]), "regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"),
    ],
)
def test_what_is_refused_with_long_values(change: Callable[[JSON], None], ending: str) -> None:
    assert any(error.endswith(ending) for error in changed(change))


def test_the_name_says_plural_and_group() -> None:
    crd = charts.workers()
    assert name_errors(crd) == []
    crd["metadata"]["name"] = "x.y"
    assert name_errors(crd) == ['must be spec.names.plural+"."+spec.group']


def test_groups_of_the_community_need_its_word() -> None:
    crd = charts.workers()
    crd["spec"]["group"] = "pools.k8s.io"
    (error,) = check_definition(stored(crd), None)
    assert str(error).startswith(
        "metadata.annotations[api-approved.kubernetes.io]: Required value: protected groups must"
    )
    crd["metadata"]["annotations"] = {"api-approved.kubernetes.io": "https://example.com/pull/1"}
    assert check_definition(stored(crd), None) == []


def test_what_an_established_definition_cannot_change() -> None:
    old = stored(charts.workers())
    old["status"]["conditions"] = [{"type": "Established", "status": "True"}]
    new = copy.deepcopy(old)
    new["spec"]["scope"] = "Cluster"
    new["spec"]["names"]["kind"] = "Other"
    assert [str(error) for error in check_definition(new, old)] == [
        'spec.scope: Invalid value: "Cluster": field is immutable',
        'spec.names.kind: Invalid value: "Other": field is immutable',
    ]
    new = copy.deepcopy(old)
    new["spec"]["versions"][0]["name"] = "v2"
    new["status"]["storedVersions"] = ["v1", "v2"]
    (error,) = check_definition(new, old)
    assert str(error).startswith('status.storedVersions[0]: Invalid value: "v1": missing from spec.versions; v1 was')


def test_names_are_accepted_unless_others_have_them() -> None:
    crd = stored(charts.certificates())
    crd["status"] = settled(crd, [], NOW)
    assert [(c["type"], c["status"]) for c in crd["status"]["conditions"]] == [
        ("NamesAccepted", "True"),
        ("Established", "True"),
    ]
    assert settled(crd, [crd], LATER) == crd["status"], "nothing to write"
    other = stored(charts.certificates())
    other["metadata"]["name"] = "papers.certs.example.com"
    other["spec"]["names"] = {
        "plural": "papers",
        "singular": "paper",
        "kind": "Paper",
        "listKind": "PaperList",
        "shortNames": ["cert"],
    }
    status = settled(other, [crd, other], NOW)
    assert status["conditions"][0]["reason"] == "ShortNamesConflict"
    assert status["conditions"][0]["message"] == '"cert" is already in use'
    assert status["conditions"][1]["reason"] == "NotAccepted"
    assert status["acceptedNames"] == {
        "kind": "Paper",
        "plural": "papers",
        "singular": "paper",
        "listKind": "PaperList",
    }
    elsewhere = copy.deepcopy(other)
    elsewhere["spec"]["group"] = "other.example.com"
    assert settled(elsewhere, [crd], NOW)["conditions"][0]["status"] == "True"


def test_versions_in_order_of_preference() -> None:
    names = ["v1beta1", "v10", "foo", "v2", "v1alpha1", "v11alpha2", "v1", "bar", "v11beta2"]
    assert sorted(names, key=version_rank) == [
        "v10",
        "v2",
        "v1",
        "v11beta2",
        "v1beta1",
        "v11alpha2",
        "v1alpha1",
        "bar",
        "foo",
    ]


def test_the_catalogue_serves_what_is_established() -> None:
    catalogue = Catalogue()
    crd = stored(charts.routes())
    crd["metadata"]["generation"] = 1
    assert not catalogue.put("webroutes.gateway.example.com", crd, 5)
    crd["status"] = settled(crd, [], NOW)
    assert catalogue.put("webroutes.gateway.example.com", crd, 6)
    assert [row.version for row in catalogue.custom] == ["v1", "v1beta1"]
    assert "gateway.example.com" in catalogue.groups
    row = catalogue.rows["gateway.example.com", "v1", "webroutes"]
    assert (row.singular, row.list_kind, row.categories) == ("webroute", "WebRouteList", ("gateway",))
    assert not catalogue.put("webroutes.gateway.example.com", crd, 7), "a status alone changes nothing"
    assert catalogue.rows["gateway.example.com", "v1", "webroutes"] is row
    assert catalogue.drop("webroutes.gateway.example.com")
    assert catalogue.custom == []
    assert "gateway.example.com" not in catalogue.groups


OBJ = {
    "metadata": {"name": "n", "labels": {"a.b/c": "x"}},
    "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Old", "status": "False"}], "n": [3, 4, 5]},
}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".metadata.name", ["n"]),
        (r".metadata.labels.a\.b/c", ["x"]),
        (".metadata.labels['a.b/c']", ["x"]),
        ('.status.conditions[?(@.type=="Ready")].status', ["True"]),
        (".status.conditions[?(@.type!='Ready')].status", ["False"]),
        (".status.conditions[*].type", ["Ready", "Old"]),
        (".status.n[0]", [3]),
        (".status.n[-1]", [5]),
        (".status.n[1:]", [4, 5]),
        (".status.n[9]", []),
        (".nothing.here", []),
        (".", [OBJ]),
    ],
)
def test_paths(path: str, found: list[Any]) -> None:
    assert find(path, OBJ) == found


@pytest.mark.parametrize("path", ["a", ".a[", ".a[?(1)]", ".a b"])
def test_what_is_no_path(path: str) -> None:
    with pytest.raises(JSONPathError):
        compiled(path)


def test_columns_and_cells() -> None:
    catalogue = Catalogue()
    crd = stored(charts.routes())
    crd["status"] = settled(crd, [], NOW)
    catalogue.put("webroutes.gateway.example.com", crd, 1)
    kind = catalogue.custom[0].custom
    assert kind is not None
    assert [(column["name"], column["type"], column["format"]) for column in columns(kind)] == [
        ("Name", "string", "name"),
        ("Hostnames", "string", ""),
        ("Age", "date", ""),
    ]
    obj = {"metadata": {"name": "r", "creationTimestamp": "1970-01-01T00:00:00Z"}, "spec": {"hostnames": ["a", "b"]}}
    assert cells(kind, obj, 100.0) == ["r", '["a","b"]', "100s"]
    assert cells(kind, {"metadata": {"name": "r"}, "spec": {}}, 0.0) == ["r", None, None]
