"""Charging a write to the ResourceQuotas of its namespace (admission plugin ResourceQuota). Pure.

What is used is kept in the status of each quota. It is judged and written in the transaction of the object itself,
so that many writes at once cannot take more than there is, and a write that fails takes nothing.
"""

from __future__ import annotations

from typing import Any

import msgspec

from twinstack.api.errors import StatusError, forbidden
from twinstack.api.quotas import pods
from twinstack.api.quotas.amounts import Amounts, added, equal, greater, masked, negative, nonzero, subtracted, text
from twinstack.api.quotas.usage import PODS, GroupResource, changes_count, includes, is_counted, taken_by, usage
from twinstack.api.resources import resource
from twinstack.server.strategy.base import WriteContext
from twinstack.store import Operation, Put

JSON = dict[str, Any]

QUOTAS = resource("", "resourcequotas")
PLUGIN = "ResourceQuota"


def charges(ctx: WriteContext, new: JSON, old: JSON | None = None, subresource: str = "") -> list[Operation]:
    """What has to be written with the object `new`, which replaces `old`, None where it is made.

    Raises StatusError 403 where a quota has too little left, or the object does not say what it takes.
    """
    kind = (ctx.resource.group, ctx.resource.plural)
    if not ctx.namespace or PLUGIN in ctx.config.disabled_admission_plugins:
        return []
    if not is_counted(kind) or (old is not None and not changes_count(kind, subresource)):
        return []
    quotas = [each for each in ctx.reader.list(QUOTAS, ctx.namespace) if _concerns(each, kind, new)]
    if not quotas:
        return []
    try:
        for quota in quotas:
            _check_told(quota, kind, new)
        taken = _difference(kind, new, old)
        if not taken:
            return []
        judged = [(quota, _charged(quota, taken)) for quota in quotas]
    except _Refused as refusal:
        name = new["metadata"].get("name") or ctx.name
        raise _forbidden(ctx, name, refusal) from None
    return [_write(quota, used) for quota, used in judged if not equal(used, _of(quota, "used"))]


class _Refused(Exception):
    """The text is for people."""


def _forbidden(ctx: WriteContext, name: str, refusal: _Refused) -> StatusError:
    return forbidden(ctx.resource.plural, name, str(refusal), ctx.resource.group)


def _of(quota: JSON, part: str) -> dict[str, str]:
    """What counts is the status: a quota holds as soon as its controller has counted what is there."""
    return (quota.get("status") or {}).get(part) or {}


def _concerns(quota: JSON, kind: GroupResource, obj: JSON) -> bool:
    return bool(taken_by(kind, _of(quota, "hard"))) and includes(kind, quota.get("spec") or {}, obj)


def _check_told(quota: JSON, kind: GroupResource, obj: JSON) -> None:
    """Whether the object says what it takes, and the quota what is used. Raises _Refused."""
    name, names = quota["metadata"]["name"], taken_by(kind, _of(quota, "hard"))
    lacking = pods.lacks(obj, names) if kind == PODS else ""
    if lacking:
        raise _Refused(f"failed quota: {name}: {lacking}")
    if not _of(quota, "used").keys() >= set(names):
        raise _Refused(f"status unknown for quota: {name}, resources: {','.join(sorted(names))}")


def _difference(kind: GroupResource, new: JSON, old: JSON | None) -> Amounts:
    """What the write takes; what it gives back is negative. Raises _Refused."""
    taken = usage(kind, new)
    below = negative(taken)
    if below:
        raise _Refused(f"quota usage is negative for resource(s): {','.join(below)}")
    return nonzero(taken if old is None else subtracted(taken, usage(kind, old)))


def _charged(quota: JSON, taken: Amounts) -> dict[str, str]:
    """What is used then. Raises _Refused."""
    hard, used = _of(quota, "hard"), _of(quota, "used")
    asked = masked(taken, hard)
    after = added(used, asked)
    exceeded = greater(masked(after, asked), hard)
    if exceeded:
        shown = [text(masked(each, exceeded)) for each in (asked, used, hard)]
        name = quota["metadata"]["name"]
        raise _Refused(f"exceeded quota: {name}, requested: {shown[0]}, used: {shown[1]}, limited: {shown[2]}")
    return after


def _write(quota: JSON, used: JSON) -> Operation:
    """Over the version that was judged alone."""
    meta = {name: value for name, value in quota["metadata"].items() if name != "resourceVersion"}
    status = quota["status"] | {"used": used}

    def encode(revision: int) -> bytes:
        first = {"resourceVersion": str(revision)}  # `store.Put`
        head = {"kind": QUOTAS.kind, "apiVersion": QUOTAS.group_version, "metadata": first | meta}
        return msgspec.json.encode(head | {"spec": quota.get("spec") or {}, "status": status})

    key = QUOTAS.key(meta["namespace"], meta["name"])
    return Put(key, encode, int(quota["metadata"]["resourceVersion"]))
