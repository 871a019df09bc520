"""Namespaces (core/v1)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from twinstack.api.errors import FieldError, invalid
from twinstack.api.metadata import STANDARD_FINALIZERS
from twinstack.api.validation import NameRule, dns_label, each, qualified_name
from twinstack.server.strategy.base import Change, Strategy, WriteContext

JSON = dict[str, Any]

NAME_LABEL = "kubernetes.io/metadata.name"
_FINALIZER = "kubernetes"
_SECURITY = "pod-security.kubernetes.io/"
_MODES = ("enforce", "audit", "warn")


class NamespaceStrategy(Strategy):
    """A namespace holds the finalizer `kubernetes` until its content is gone (namespaces/finalize removes it)."""

    name_rule: NameRule = staticmethod(dns_label)
    metadata_twice = False

    def default(self, obj: JSON) -> None:
        name = obj["metadata"].get("name")
        if name:
            obj["metadata"].setdefault("labels", {})[NAME_LABEL] = name

    def prepare_create(self, ctx: WriteContext, obj: JSON) -> None:
        obj["metadata"].setdefault("labels", {})[NAME_LABEL] = obj["metadata"].get("name", "")
        finalizers = obj.setdefault("spec", {}).setdefault("finalizers", [])
        if _FINALIZER not in finalizers:
            finalizers.append(_FINALIZER)
        obj["status"] = {"phase": "Active"}

    def prepare_update(self, ctx: WriteContext, new: JSON, old: JSON) -> None:
        new["spec"] = old.get("spec", {})

    def validate(self, ctx: WriteContext, obj: JSON, old: JSON | None) -> Sequence[FieldError]:
        errors = _pod_security_errors(obj["metadata"].get("labels") or {})
        if old is not None:
            return errors
        return [*_finalizer_errors(obj["spec"]["finalizers"]), *errors]

    def validate_status(self, ctx: WriteContext, obj: JSON, old: JSON) -> Sequence[FieldError]:
        phase = (obj.get("status") or {}).get("phase", "")
        if obj["metadata"].get("deletionTimestamp"):
            if phase != "Terminating":
                detail = "may only be 'Terminating' if `deletionTimestamp` is not empty"
                return [invalid("status.Phase", phase, detail)]
        elif phase != "Active":
            return [invalid("status.Phase", phase, "may only be 'Active' if `deletionTimestamp` is empty")]
        return ()

    def update_status(self, ctx: WriteContext, new: JSON, old: JSON) -> Change:
        new["metadata"].setdefault("labels", {})[NAME_LABEL] = new["metadata"]["name"]
        return super().update_status(ctx, new, old)


def _finalizer_errors(finalizers: Sequence[str]) -> list[FieldError]:
    errors: list[FieldError] = []
    for name in finalizers:
        errors += each("spec.finalizers", name, qualified_name(name))
        if "/" not in name and name not in STANDARD_FINALIZERS:
            detail = "name is neither a standard finalizer name nor is it fully qualified"
            errors.append(invalid("spec.finalizers", name, detail))
    return errors


def _pod_security_errors(labels: JSON) -> list[FieldError]:
    """The labels of Pod Security Standards must mean something, though nothing here enforces them."""
    errors: list[FieldError] = []
    for mode in _MODES:
        level, version = labels.get(f"{_SECURITY}{mode}"), labels.get(f"{_SECURITY}{mode}-version")
        if level is not None and level not in ("privileged", "baseline", "restricted"):
            detail = "must be one of privileged, baseline, restricted"
            errors.append(invalid(f"metadata.labels[{_SECURITY}{mode}]", level, detail))
        if version is not None and version != "latest" and not re.fullmatch(r"v1\.(0|[1-9][0-9]*)", version):
            detail = 'must be "latest" or "v1.x"'
            errors.append(invalid(f"metadata.labels[{_SECURITY}{mode}-version]", version, detail))
    return errors
