"""Nobody gives away more than they have: what a write of a role or binding grants must be its writer's already.

Exempt are system:masters, who may `escalate` the role or `bind` what the binding names, and writes that only let a
garbage collector delete. As the policybased storages of upstream's RBAC registry.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from twinstack.api.errors import StatusError, forbidden, go_value, not_found
from twinstack.server.admission import Attempt
from twinstack.server.authorization.decisions import MASTERS, Attributes, Authorizer
from twinstack.server.authorization.rbac.authorizer import GROUP, RBAC
from twinstack.server.authorization.rbac.index import PolicyIndex, RoleRef
from twinstack.server.authorization.rbac.rules import PolicyRule, compact, described, quoted, uncovered
from twinstack.server.messages import UserInfo

JSON = dict[str, Any]

_EVERYTHING = [PolicyRule(["*"], ["*"], ["*"]), PolicyRule(["*"], non_resource_urls=["*"])]
_COLLECTED = ("finalizers", "ownerReferences", "managedFields", "resourceVersion")
_AGGREGATION = "must have cluster-admin privileges to use the aggregationRule"


class Escalation:
    """`admission.Check` of every write of roles and bindings."""

    def __init__(self, authorizer: Authorizer, index: PolicyIndex) -> None:
        self._authorizer = authorizer
        self._index = index
        self._rbac = RBAC(index)

    def __call__(self, attempt: Attempt) -> None:
        row = attempt.route.resource
        if row.group != GROUP or attempt.new is None or MASTERS in attempt.user.groups:
            return
        if attempt.old is not None and _only_collects(attempt.new, attempt.old):
            return
        if row.plural in ("rolebindings", "clusterrolebindings"):
            self._check_binding(attempt, attempt.new)
        else:
            self._check_role(attempt, attempt.new)

    def _check_role(self, attempt: Attempt, new: JSON) -> None:
        route = attempt.route
        if self._may(attempt, "escalate", route.resource.plural, route.name):
            return
        problem = self._excess(attempt, msgspec.convert(new.get("rules") or [], list[PolicyRule]))
        if not problem and any((obj or {}).get("aggregationRule") is not None for obj in (new, attempt.old)):
            problem = _AGGREGATION if self._excess(attempt, _EVERYTHING) else ""
        if problem:
            raise _forbidden(attempt, problem)

    def _check_binding(self, attempt: Attempt, new: JSON) -> None:
        role = msgspec.convert(new.get("roleRef") or {}, RoleRef)
        kind = {"ClusterRole": "clusterroles", "Role": "roles"}.get(role.kind)
        if kind and self._may(attempt, "bind", kind, role.name):
            return
        rules = self._index.rules_of(role, attempt.route.namespace)
        if rules is None:
            raise not_found(attempt.route.resource.plural, role.name, GROUP)
        problem = self._excess(attempt, [rule.source for rule in rules])
        if problem:
            raise _forbidden(attempt, problem)

    def _may(self, attempt: Attempt, verb: str, resource: str, name: str) -> bool:
        question = Attributes(
            user=attempt.user,
            verb=verb,
            group=GROUP,
            version="*",
            resource=resource,
            namespace=attempt.route.namespace,
            name=name,
        )
        return self._authorizer.authorize(question).allowed

    def _excess(self, attempt: Attempt, wanted: Sequence[PolicyRule]) -> str:
        """What the writer lacks of `wanted`, for people; empty if nothing."""
        user = attempt.user
        owned, errors = self._rbac.policy_of(user, attempt.route.namespace)
        missing = uncovered(owned, wanted)
        if not missing:
            return ""
        lines = "\n".join(sorted({described(rule) for rule in compact(missing)}))
        trouble = f"; resolution errors: [{' '.join(errors)}]" if errors else ""
        return f"{_named(user)} is attempting to grant RBAC permissions not currently held:\n{lines}{trouble}"


def _named(user: UserInfo) -> str:
    return f"user {go_value(user.name)} (groups={quoted(user.groups)})"


def _forbidden(attempt: Attempt, problem: str) -> StatusError:
    return forbidden(attempt.route.resource.plural, attempt.name, problem, attempt.route.resource.group)


def _only_collects(new: JSON, old: JSON) -> bool:
    """Whether nothing changes but what keeps an object from being collected."""
    return _rest(new) == _rest(old)


def _rest(obj: JSON) -> JSON:
    meta = {name: value for name, value in obj["metadata"].items() if name not in _COLLECTED and value}
    return {name: value for name, value in obj.items() if value} | {"metadata": meta}
