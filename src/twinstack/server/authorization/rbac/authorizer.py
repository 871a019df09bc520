"""The mode RBAC: allows what a role says that a binding gives to the user; has no opinion on everything else."""

from __future__ import annotations

from collections.abc import Callable

from twinstack.api.resources import Resource, resource
from twinstack.server.authorization.decisions import Attributes, Decision, Rules, Verdict, aggregate
from twinstack.server.authorization.rbac.index import PolicyIndex, missing
from twinstack.server.authorization.rbac.rules import PolicyRule
from twinstack.server.messages import UserInfo
from twinstack.server.watchcache import WatchCache
from twinstack.server.watchers import Change

GROUP = "rbac.authorization.k8s.io"
ROLES, CLUSTER_ROLES = resource(GROUP, "roles"), resource(GROUP, "clusterroles")
ROLE_BINDINGS, CLUSTER_ROLE_BINDINGS = resource(GROUP, "rolebindings"), resource(GROUP, "clusterrolebindings")


class RBAC:
    """`authorization.decisions.Authorizer` on an index."""

    def __init__(self, index: PolicyIndex) -> None:
        self._index = index

    def authorize(self, attributes: Attributes) -> Decision:
        errors: list[str] = []
        user, namespace = attributes.user, attributes.namespace
        for binding in self._index.bindings_of(user, namespace):
            rules = self._index.rules_of(binding.role, binding.namespace)
            if rules is None:
                errors.append(missing(binding.role))
                continue
            for rule in rules:
                if rule.allows(attributes):
                    return Decision(Verdict.ALLOW, f"RBAC: allowed by {binding.describe(user)}")
        return Decision(Verdict.NO_OPINION, f"RBAC: {aggregate(errors)}" if errors else "")

    def rules_for(self, user: UserInfo, namespace: str) -> Rules:
        rules, errors = self.policy_of(user, namespace)
        return Rules([_shown(rule) for rule in rules], error=aggregate(errors))

    def policy_of(self, user: UserInfo, namespace: str) -> tuple[list[PolicyRule], list[str]]:
        """Every rule that holds for `user` in `namespace`, and what is wrong with bindings."""
        rules: list[PolicyRule] = []
        errors: list[str] = []
        for binding in dict.fromkeys(self._index.bindings_of(user, namespace)):
            found = self._index.rules_of(binding.role, binding.namespace)
            if found is None:
                errors.append(missing(binding.role))
            else:
                rules += [rule.source for rule in found]
        return rules, errors


def _shown(rule: PolicyRule) -> dict[str, list[str]]:
    fields = {
        "verbs": rule.verbs,
        "apiGroups": rule.api_groups,
        "resources": rule.resources,
        "resourceNames": rule.resource_names,
        "nonResourceURLs": rule.non_resource_urls,
    }
    return {name: values for name, values in fields.items() if values}


def follow(cache: WatchCache, index: PolicyIndex) -> None:
    """Fill `index` with the roles and bindings in a loaded cache, and keep it as they change."""
    for row in (ROLES, CLUSTER_ROLES, ROLE_BINDINGS, CLUSTER_ROLE_BINDINGS):
        collection = cache.collection(row)
        for version in collection.versions(row.prefix):
            _put(index, row, version.key, version.value)
        collection.observe(_observer(index, row))


def _observer(index: PolicyIndex, row: Resource) -> Callable[[Change], None]:
    def observe(change: Change) -> None:
        if change.new is not None:
            _put(index, row, change.key, change.new.value)
        elif row in (ROLES, CLUSTER_ROLES):
            assert change.old is not None
            index.drop_role(change.old.value)
        else:
            index.drop_binding(change.key)

    return observe


def _put(index: PolicyIndex, row: Resource, key: str, value: bytes) -> None:
    if row in (ROLES, CLUSTER_ROLES):
        index.put_role(value)
    else:
        index.put_binding(key, value)
