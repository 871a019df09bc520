"""From client-side to server-side apply: what the annotation of `kubectl apply` says (KEP-555).

kubectl remembers there what it applied last. When it applies by the server for the first time, those fields are its
own already, whoever wrote them; and while the annotation is there the server keeps it true.
"""

from __future__ import annotations

import json
from typing import Any

from twinstack.api.fieldsets.checking import ShapeError, check_shape
from twinstack.api.fieldsets.comparison import compare, fields_of
from twinstack.api.fieldsets.managers import Applied, Conflicts, Kind, Manager, Managers, applied
from twinstack.api.fieldsets.sets import FieldSet, difference

JSON = dict[str, Any]

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
KUBECTL = "kubectl"
_MAX_ANNOTATIONS = 256 * 1024  # bytes, as validation counts them


def applied_by_kubectl(
    live: JSON, config: JSON, managers: Managers, who: Manager, now: str, kind: Kind, *, force: bool
) -> Applied:
    """`managers.applied`, but for conflicts that the annotation settles."""
    try:
        done = applied(live, config, managers, who, now, kind, force=force)
    except Conflicts as conflicts:
        allowed = _own_fields(live, kind)
        disputed = {key: difference(fields, allowed) for key, fields in conflicts.found.items()}
        disputed = {key: fields for key, fields in disputed.items() if fields}
        if disputed:
            raise Conflicts(disputed) from None
        done = applied(live, config, managers, who, now, kind, force=True)
    if _annotation(live):
        _remember(done.object, config)
    return done


def _annotation(live: JSON) -> str:
    annotations = live["metadata"].get("annotations") or {}
    return annotations.get(LAST_APPLIED) or ""


def _own_fields(live: JSON, kind: Kind) -> FieldSet:
    """The fields that were applied last and still are as they were applied."""
    try:
        last = json.loads(_annotation(live) or "null")
        if not isinstance(last, dict) or last.get("apiVersion") != kind.api_version:
            return {}
        check_shape(last, kind.topology)
    except (ValueError, ShapeError):
        return {}
    changed = compare(last, live, kind.topology)
    fields = fields_of(last, kind.topology)
    for part in changed:
        fields = difference(fields, part)
    return fields


def _remember(merged: JSON, config: JSON) -> None:
    """Put the applied configuration into the annotation; one that is too large has none."""
    meta = dict(config.get("metadata") or {})
    meta["annotations"] = {name: text for name, text in (meta.get("annotations") or {}).items() if name != LAST_APPLIED}
    if not meta["annotations"]:
        del meta["annotations"]
    text = json.dumps(config | {"metadata": meta}, sort_keys=True, ensure_ascii=False, separators=(",", ":")) + "\n"
    annotations = dict((merged["metadata"].get("annotations")) or {}) | {LAST_APPLIED: text}
    if sum(len(name.encode()) + len(value.encode()) for name, value in annotations.items()) > _MAX_ANNOTATIONS:
        del annotations[LAST_APPLIED]
    merged["metadata"] = merged["metadata"] | {"annotations": annotations}
