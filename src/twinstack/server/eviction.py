"""`pods/eviction`: delete a Pod unless a disruption budget forbids it (KEP-85). This cluster keeps no budgets."""

from __future__ import annotations

from typing import Any

import msgspec

from twinstack.api import times
from twinstack.api.errors import bad_request
from twinstack.server.admission import Attempt
from twinstack.server.deletion import check_preconditions
from twinstack.server.messages import Route, UserInfo
from twinstack.server.options import WriteOptions, delete_options
from twinstack.server.plans import Written
from twinstack.server.registry import Registry
from twinstack.server.subresources import SUCCESS

JSON = dict[str, Any]

_CONDITION = "DisruptionTarget"


async def evict(registry: Registry, route: Route, eviction: JSON, user: UserInfo, options: WriteOptions) -> Written:
    """`eviction` is a policy/v1 Eviction; its deleteOptions are those of the deletion. Raises StatusError."""
    name = (eviction.get("metadata") or {}).get("name") or ""
    if name != route.name:
        raise bad_request("name in URL does not match name in Eviction object")
    wanted = delete_options(_dry(eviction.get("deleteOptions") or {}, options), {})
    pod = Route(route.resource, route.namespace, route.name)
    stored = registry.get(pod).decode()
    for check in registry.checks:
        check(Attempt(route, route.name, user, eviction, stored))
    meta = stored["metadata"]
    check_preconditions(pod.resource, meta, wanted)
    # What was asked for holds; from here on it is this Pod, not one made meanwhile under the same name.
    wanted = msgspec.structs.replace(wanted, uid=meta["uid"], resource_version="")
    if not wanted.dry_run:
        await registry.change(msgspec.structs.replace(pod, subresource="status"), _mark, user)
    await registry.delete(pod, user, options=wanted)
    return Written(value=msgspec.json.encode(SUCCESS), object=SUCCESS, created=True)


def _dry(deletion: JSON, options: WriteOptions) -> JSON:
    """A dry run of the request is one of the deletion. Raises StatusError where the two contradict."""
    asked = deletion.get("dryRun") or []
    if options.dry_run and not asked:
        return deletion | {"dryRun": ["All"]}
    if asked and not options.dry_run:
        raise bad_request(f"Non-matching dry-run options in request and content: [] and [{' '.join(asked)}]")
    return deletion


def _mark(pod: JSON) -> tuple[JSON, list[str]]:
    """Tell why the Pod goes (KEP-3329)."""
    if pod["metadata"].get("deletionTimestamp"):
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
