"""Fills ClusterRoles that gather others by label (`aggregationRule`) with the rules of those."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from twinstack.api.errors import StatusError
from twinstack.api.kinds import CLUSTER_ROLES
from twinstack.api.rbac import ClusterRole
from twinstack.api.selectors import LabelSelector
from twinstack.client.workqueue import WorkQueue
from twinstack.controllers.context import Context, synced

NAME = "clusterrole-aggregation-controller"
_APPLY = "application/apply-patch+yaml"


def gathered(role: ClusterRole, roles: Iterable[ClusterRole]) -> list[dict[str, Any]]:
    """The rules of all that `role` selects, selector by selector, in order of names, each rule once."""
    if role.aggregation_rule is None:
        return []
    rules: list[dict[str, Any]] = []
    others = sorted((each for each in roles if each.key != role.key), key=lambda each: each.key)
    for selector in role.aggregation_rule.cluster_role_selectors:
        wanted = LabelSelector.from_object(selector)
        for other in others:
            if wanted.matches(other.metadata.labels):
                rules += [rule for rule in other.rules or [] if rule not in rules]
    return rules


class ClusterRoleAggregationController:
    """Any change may concern every gathering role, of which there are few: all of them are looked at again."""

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._queue = WorkQueue("clusterrole-aggregation")
        self._roles = context.informers.of(CLUSTER_ROLES)

    async def run(self) -> None:
        await synced(self._roles)
        self._roles.subscribe(self._role_changed)
        await self._queue.run(self._sync)

    def _role_changed(self, old: ClusterRole | None, new: ClusterRole | None) -> None:
        for name, role in self._roles.objects.items():
            if role.aggregation_rule is not None:
                self._queue.add(name)

    async def _sync(self, name: str) -> None:
        role = self._roles.objects.get(name)
        if role is None or role.aggregation_rule is None:
            return
        rules = gathered(role, self._roles.objects.values())
        if rules == (role.rules or []):
            return
        row = CLUSTER_ROLES.resource
        body = {"kind": row.kind, "apiVersion": row.group_version, "metadata": {"name": name}, "rules": rules}
        path = f"{row.path(name=name)}?fieldManager={NAME}&force=true"
        try:
            answer = await self._client.request("PATCH", path, msgspec.json.encode(body), content_type=_APPLY)
        except StatusError as error:
            if error.code != 404:
                raise
        else:
            self._roles.wrote(msgspec.json.decode(answer, type=ClusterRole))
