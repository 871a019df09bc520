"""Sees at the start that the default roles and bindings are there and give at least what they should.

As upstream: what somebody added to one stays, what somebody took away comes back, unless the annotation
`rbac.authorization.kubernetes.io/autoupdate: "false"` says to leave the object alone. A binding that names another
role is made anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from twinstack.api.errors import StatusError
from twinstack.api.resources import Resource
from twinstack.server.authorization.rbac import bootstrap_policy
from twinstack.server.authorization.rbac.authorizer import CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, ROLE_BINDINGS, ROLES
from twinstack.server.authorization.rbac.rules import PolicyRule, uncovered
from twinstack.server.messages import Route
from twinstack.server.options import WriteOptions
from twinstack.server.registry import SYSTEM, Registry

JSON = dict[str, Any]

_ROWS = {row.kind: row for row in (ROLES, CLUSTER_ROLES, ROLE_BINDINGS, CLUSTER_ROLE_BINDINGS)}
_OPTIONS = WriteOptions(field_manager="kube-apiserver")


async def ensure(registry: Registry, more: Iterable[JSON] = ()) -> None:
    """Make and mend all of them, and `more`; those that need a write are written together. Raises StatusError."""
    policy = bootstrap_policy.read()
    wanted = {_identity(obj): obj for obj in (*policy.roles, *policy.bindings)}
    for obj in more:
        default = wanted.get(_identity(obj))
        wanted[_identity(obj)] = obj if default is None else reconciled(default, obj)
    await asyncio.gather(*_repairs(registry, wanted.values()))


def read_manifest(path: str) -> list[JSON]:
    """Roles and bindings of a file: a v1 List in JSON. Raises OSError, or ValueError with the file's name."""
    try:
        document = msgspec.json.decode(Path(path).read_bytes())
        items: list[JSON] = document["items"]
        for item in items:
            _ROWS[item["kind"]].key(item["metadata"].get("namespace", ""), item["metadata"]["name"])
            item["metadata"] |= {"labels": item["metadata"].get("labels") or {}}
            item["metadata"] |= {"annotations": item["metadata"].get("annotations") or {}}
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: not a List of roles and bindings in JSON: {error!r}") from None
    return items


def _identity(obj: JSON) -> tuple[str, str, str]:
    return obj["kind"], obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def _repairs(registry: Registry, wanted: Iterable[JSON]) -> list[Any]:
    work = []
    for obj in wanted:
        row = _ROWS[obj["kind"]]
        meta = obj["metadata"]
        stored = registry.reader.get(row, meta.get("namespace", ""), meta["name"])
        if stored is None:
            work.append(_create(registry, row, obj))
        elif "roleRef" in obj and stored["roleRef"] != obj["roleRef"] and not _is_protected(stored):
            work.append(_replace(registry, row, obj))
        elif reconciled(stored, obj) != stored:
            work.append(_update(registry, row, obj))
    return work


async def _create(registry: Registry, row: Resource, obj: JSON) -> None:
    with _unless_done("AlreadyExists"):
        await registry.create(Route(row, obj["metadata"].get("namespace", "")), obj, SYSTEM, _OPTIONS)


async def _replace(registry: Registry, row: Resource, obj: JSON) -> None:
    with _unless_done("NotFound"):
        await registry.delete(_route(row, obj), SYSTEM)
    await _create(registry, row, obj)


@contextmanager
def _unless_done(reason: str) -> Iterator[None]:
    """Another server on the same store may be faster."""
    try:
        yield
    except StatusError as error:
        if error.reason != reason:
            raise


async def _update(registry: Registry, row: Resource, obj: JSON) -> None:
    await registry.change(_route(row, obj), lambda stored: (reconciled(stored, obj), []), SYSTEM, _OPTIONS)


def _route(row: Resource, obj: JSON) -> Route:
    return Route(row, obj["metadata"].get("namespace", ""), obj["metadata"]["name"])


def reconciled(stored: JSON, wanted: JSON) -> JSON:
    """`stored` with what it lacks of `wanted`: labels, annotations, rules or subjects, selectors of an aggregation."""
    if _is_protected(stored):
        return stored
    result = dict(stored)
    meta = result["metadata"] = dict(stored["metadata"])
    for field in ("labels", "annotations"):
        meta[field] = wanted["metadata"][field] | (meta.get(field) or {})
    if "roleRef" in wanted:
        subjects = stored.get("subjects") or []
        missing = [subject for subject in wanted["subjects"] if subject not in subjects]
        return result | {"subjects": subjects + missing} if missing else result
    if "aggregationRule" in wanted:
        rule = stored.get("aggregationRule") or {}
        selectors = rule.get("clusterRoleSelectors") or []
        lacking = [each for each in wanted["aggregationRule"]["clusterRoleSelectors"] if each not in selectors]
        return result | {"aggregationRule": rule | {"clusterRoleSelectors": selectors + lacking}} if lacking else result
    rules = stored.get("rules") or []
    unmet = [msgspec.to_builtins(rule) for rule in uncovered(_typed(rules), _typed(wanted["rules"]))]
    added = [{name: values for name, values in rule.items() if values} for rule in unmet]
    return result | {"rules": rules + added} if added else result


def _typed(rules: list[JSON]) -> list[PolicyRule]:
    return msgspec.convert(rules, list[PolicyRule])


def _is_protected(stored: JSON) -> bool:
    annotations = stored["metadata"].get("annotations") or {}
    return annotations.get(bootstrap_policy.AUTOUPDATE) == "false"
