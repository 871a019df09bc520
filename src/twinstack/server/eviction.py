"""`pods/eviction`: delete a Pod unless a disruption budget forbids it (KEP-85)."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from twinstack.api import times
from twinstack.api.errors import StatusError, bad_request, conflict
from twinstack.api.resources import resource
from twinstack.server import disruption
from twinstack.server.admission import Attempt
from twinstack.server.deletion import check_preconditions
from twinstack.server.messages import Route, UserInfo
from twinstack.server.options import DeleteOptions, WriteOptions, delete_options
from twinstack.server.plans import Written
from twinstack.server.registry import SYSTEM, Registry
from twinstack.server.subresources import SUCCESS

JSON = dict[str, Any]

_BUDGETS = resource("policy", "poddisruptionbudgets")

_CONDITION = "DisruptionTarget"
_ATTEMPTS = 20  # times that a Pod that does not run yet may change while it is evicted
_TOO_MANY = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."


class _Permit(NamedTuple):
    """`as_seen`: only while the Pod has not changed. `budget` names the one to which it does not count, unready."""

    as_seen: bool = False
    budget: str = ""


async def evict(registry: Registry, route: Route, eviction: JSON, user: UserInfo, options: WriteOptions) -> Written:
    """`eviction` is a policy/v1 Eviction; its deleteOptions are those of the deletion.

    Raises StatusError: 429 where a budget forbids it, 500 where there is more than one.
    """
    name = (eviction.get("metadata") or {}).get("name") or ""
    if name != route.name:
        raise bad_request("name in URL does not match name in Eviction object")
    wanted = delete_options(_dry(eviction.get("deleteOptions") or {}, options), {})
    await registry.current()  # a budget that another server has already changed counts
    pod = Route(route.resource, route.namespace, route.name)
    for check in registry.checks:
        check(Attempt(route, route.name, user, eviction, registry.get(pod).decode()))
    for _ in range(_ATTEMPTS):
        stored = registry.get(pod).decode()
        check_preconditions(pod.resource, stored["metadata"], wanted)
        permit = await _permit(registry, stored, wanted.dry_run)
        try:
            await _delete(registry, pod, stored["metadata"], permit, user, wanted)
        except StatusError as error:
            if not permit.as_seen or wanted.resource_version or error.code != 409:
                raise
            if permit.budget:  # it may have become ready: then it counts
                raise disruption.being_processed(permit.budget) from error
            continue
        return Written(value=msgspec.json.encode(SUCCESS), object=SUCCESS, created=True)
    raise conflict(pod.resource.plural, name)


async def _permit(registry: Registry, pod: JSON, dry_run: bool) -> _Permit:
    """Ask the budgets. Raises StatusError."""
    if disruption.ignores_budgets(pod):
        return _Permit(as_seen=(pod.get("status") or {}).get("phase") == "Pending" and not _leaves(pod))
    budgets = disruption.of_pod(pod, registry.reader.list(_BUDGETS, pod["metadata"]["namespace"]))
    if len(budgets) > 1:
        raise StatusError(500, "", _TOO_MANY)
    if not budgets:
        return _Permit()
    meta = budgets[0]["metadata"]
    if not disruption.is_ready(pod) and disruption.may_go_unready(budgets[0]):
        return _Permit(as_seen=True, budget=meta["name"])
    if dry_run:
        disruption.take(budgets[0], pod["metadata"]["name"])
        return _Permit()
    route = Route(_BUDGETS, meta["namespace"], meta["name"], "status")
    await registry.change(route, lambda budget: (disruption.take(budget, pod["metadata"]["name"]), []), SYSTEM)
    return _Permit()


async def _delete(
    registry: Registry, pod: Route, seen: JSON, permit: _Permit, user: UserInfo, wanted: DeleteOptions
) -> None:
    """From here on it is the Pod of the metadata `seen`, not one made meanwhile under the same name.

    Raises StatusError.
    """
    meant = msgspec.structs.replace(wanted, uid=seen["uid"], resource_version="")
    if not wanted.dry_run:
        version = seen["resourceVersion"] if permit.as_seen else wanted.resource_version
        now = msgspec.structs.replace(meant, resource_version=version)

        def mark(stored: JSON) -> tuple[JSON, list[str]]:
            check_preconditions(pod.resource, stored["metadata"], now)
            return _mark(stored)

        await registry.change(msgspec.structs.replace(pod, subresource="status"), mark, user)
    await registry.delete(pod, user, options=meant)


def _dry(deletion: JSON, options: WriteOptions) -> JSON:
    """A dry run of the request is one of the deletion. Raises StatusError where the two contradict."""
    asked = deletion.get("dryRun") or []
    if options.dry_run and not asked:
        return deletion | {"dryRun": ["All"]}
    if asked and not options.dry_run:
        raise bad_request(f"Non-matching dry-run options in request and content: [] and [{' '.join(asked)}]")
    return deletion


def _leaves(pod: JSON) -> bool:
    return bool(pod["metadata"].get("deletionTimestamp"))


def _mark(pod: JSON) -> tuple[JSON, list[str]]:
    """Tell why the Pod goes (KEP-3329)."""
    if _leaves(pod):
        return pod, []
    status: JSON = pod.setdefault("status", {})
    others = [each for each in status.get("conditions") or [] if each.get("type") != _CONDITION]
    condition = {
        "type": _CONDITION,
        "status": "True",
        "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting",
        "lastProbeTime": None,
        "lastTransitionTime": times.now(),
    }
    status["conditions"] = [*others, condition]
    return pod, []
