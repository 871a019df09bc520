"""What one PolicyRule allows, and what a set of rules covers. Pure.

Matching as component-helpers' auth/rbac/validation and plugin/pkg/auth/authorizer/rbac of Kubernetes do it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from typing import Any

import msgspec

from twinstack.api.errors import go_value
from twinstack.server.authorization.decisions import Attributes

JSON = dict[str, Any]


class PolicyRule(msgspec.Struct, rename="camel"):
    """rbac.authorization.k8s.io/v1 PolicyRule. A field that is null or missing is empty."""

    verbs: list[str] | None = None
    api_groups: list[str] | None = None
    resources: list[str] | None = None
    resource_names: list[str] | None = None
    non_resource_urls: list[str] | None = msgspec.field(default=None, name="nonResourceURLs")


class Rule:
    """One rule, ready to be asked. `*` stands for every verb, group, resource or path."""

    __slots__ = ("_every_resource", "_groups", "_names", "_paths", "_prefixes", "_resources", "_verbs", "source")

    def __init__(self, source: PolicyRule) -> None:
        self.source = source
        self._verbs = _named(source.verbs)
        self._groups = _named(source.api_groups)
        self._resources = frozenset(source.resources or ())
        self._every_resource = "*" in self._resources
        self._names = frozenset(source.resource_names or ())
        urls = source.non_resource_urls or ()
        self._paths = frozenset(urls)
        self._prefixes = tuple(url.rstrip("*") for url in urls if url.endswith("*"))

    def allows(self, attributes: Attributes) -> bool:
        """Whether the rule allows what is asked. A rule with resourceNames never allows what has no name."""
        if self._verbs is not None and attributes.verb not in self._verbs:
            return False
        if not attributes.resource_request:
            return attributes.path in self._paths or (
                bool(self._prefixes) and attributes.path.startswith(self._prefixes)
            )
        if self._groups is not None and attributes.group not in self._groups:
            return False
        if not self._every_resource and not self._has_resource(attributes.resource, attributes.subresource):
            return False
        return not self._names or attributes.name in self._names

    def _has_resource(self, resource: str, subresource: str) -> bool:
        if not subresource:
            return resource in self._resources
        return f"{resource}/{subresource}" in self._resources or f"*/{subresource}" in self._resources


def _named(values: Sequence[str] | None) -> frozenset[str] | None:
    """None when all are meant."""
    return None if values and "*" in values else frozenset(values or ())


# What rules cover ----------------------------------------------------------------------------------------------------


def uncovered(owned: Sequence[PolicyRule], wanted: Iterable[PolicyRule]) -> list[PolicyRule]:
    """What of `wanted` no single rule of `owned` grants, as rules of one group, resource, name and verb each."""
    return [part for rule in wanted for part in _parts(rule) if not any(_covers(owner, part) for owner in owned)]


def _parts(rule: PolicyRule) -> Iterator[PolicyRule]:
    verbs = rule.verbs or ()
    for group, resource, verb in product(rule.api_groups or (), rule.resources or (), verbs):
        if rule.resource_names:
            for name in rule.resource_names:
                yield PolicyRule([verb], [group], [resource], [name])
        else:
            yield PolicyRule([verb], [group], [resource])
    for url, verb in product(rule.non_resource_urls or (), verbs):
        yield PolicyRule([verb], non_resource_urls=[url])


def _covers(owner: PolicyRule, part: PolicyRule) -> bool:
    names = owner.resource_names or ()
    return (
        _has_all(owner.verbs, part.verbs)
        and _has_all(owner.api_groups, part.api_groups)
        and _covers_resources(owner.resources or (), part.resources or ())
        and (not names or bool(part.resource_names and set(part.resource_names) <= set(names)))
        and all(_covers_url(owner.non_resource_urls or (), url) for url in part.non_resource_urls or ())
    )


def _has_all(owned: Sequence[str] | None, wanted: Sequence[str] | None) -> bool:
    return not wanted or (owned is not None and ("*" in owned or set(wanted) <= set(owned)))


def _covers_resources(owned: Sequence[str], wanted: Sequence[str]) -> bool:
    if "*" in owned:
        return True
    return all(path in owned or ("/" in path and f"*/{path.partition('/')[2]}" in owned) for path in wanted)


def _covers_url(owned: Sequence[str], wanted: str) -> bool:
    return any(url == wanted or (url.endswith("*") and wanted.startswith(url.rstrip("*"))) for url in owned)


def compact(rules: Iterable[PolicyRule]) -> list[PolicyRule]:
    """The same with the verbs of one resource in one rule; what is not about one resource comes first, as it is."""
    others: list[PolicyRule] = []
    simple: dict[tuple[str, str, tuple[str, ...]], PolicyRule] = {}
    for rule in rules:
        groups, resources, names = rule.api_groups or (), rule.resources or (), rule.resource_names or ()
        if len(groups) != 1 or len(resources) != 1 or len(names) > 1 or rule.non_resource_urls:
            others.append(rule)
            continue
        key = (groups[0], resources[0], tuple(names))
        known = simple.get(key)
        if known is None:
            simple[key] = msgspec.structs.replace(rule, verbs=list(rule.verbs or ()))
        else:
            assert known.verbs is not None
            known.verbs += [verb for verb in rule.verbs or () if verb not in known.verbs]
    return [*others, *simple.values()]


def described(rule: PolicyRule) -> str:
    """In one line, as upstream's messages have it."""
    fields = {
        "APIGroups": rule.api_groups,
        "Resources": rule.resources,
        "NonResourceURLs": rule.non_resource_urls,
        "ResourceNames": rule.resource_names,
        "Verbs": rule.verbs,
    }
    return "{" + ", ".join(f"{name}:{quoted(values)}" for name, values in fields.items() if values) + "}"


def quoted(values: Iterable[str]) -> str:
    """Strings as Go's `%q` prints a slice."""
    return f"[{' '.join(go_value(value) for value in values)}]"
