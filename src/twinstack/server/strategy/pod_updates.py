"""What an update may change in the spec of a Pod: images, a shorter deadline, more tolerations, fewer gates."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from typing import Any

from twinstack.api.errors import FieldError, forbidden_field, invalid, required
from twinstack.server.strategy.pod_internals import pod_spec
from twinstack.server.strategy.pod_validation import blank_image_errors
from twinstack.server.strategy.scheduling_validation import toleration_errors

JSON = dict[str, Any]

_CHANGEABLE = (
    "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,"
    "`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)
_MAX_SECONDS = 2**31 - 1


def update_errors(new: JSON, old: JSON) -> list[FieldError]:
    """Both are specs. An error that ends the check upstream ends it here."""
    errors: list[FieldError] = []
    for kind in ("containers", "initContainers"):
        found, different = _image_errors(new.get(kind) or [], old.get(kind) or [], f"spec.{kind}")
        errors += found
        if different:
            return errors
    found, ends = _deadline_errors(new.get("activeDeadlineSeconds"), old.get("activeDeadlineSeconds"))
    errors += found
    if ends:
        return errors
    errors += _toleration_errors(new.get("tolerations") or [], old.get("tolerations") or [])
    errors += _gate_errors(new.get("schedulingGates") or [], old.get("schedulingGates") or [])
    difference = _other_changes(new, old)
    if difference:
        detail = f"pod updates may not change fields other than {_CHANGEABLE}\n{difference}"
        errors.append(forbidden_field("spec", detail))
    return errors


def _image_errors(new: Sequence[JSON], old: Sequence[JSON], field: str) -> tuple[list[FieldError], bool]:
    if len(new) != len(old):
        return [forbidden_field(field, "pod updates may not add or remove containers")], True
    errors: list[FieldError] = []
    for i, container in enumerate(new):
        if not container.get("image"):
            errors.append(required(f"{field}[{i}].image"))
        errors += blank_image_errors(container, f"{field}[{i}]")
    return errors, False


def _deadline_errors(new: int | None, old: int | None) -> tuple[list[FieldError], bool]:
    field = "spec.activeDeadlineSeconds"
    if new is None:
        if old is None:
            return [], False
        return [invalid(field, None, "must not update from a positive integer to nil value")], False
    if not 0 <= new <= _MAX_SECONDS:
        return [invalid(field, new, f"must be between 0 and {_MAX_SECONDS}, inclusive")], True
    if old is not None and old < new:
        return [invalid(field, new, "must be less than or equal to previous value")], True
    return [], False


def _toleration_errors(new: Sequence[JSON], old: Sequence[JSON]) -> list[FieldError]:
    """Old ones stay, but for their tolerationSeconds."""

    def fixed(toleration: JSON) -> frozenset[tuple[str, str]]:
        return frozenset((name, value) for name, value in toleration.items() if name != "tolerationSeconds")

    kept = {fixed(toleration) for toleration in new}
    if any(fixed(toleration) not in kept for toleration in old):
        detail = "existing toleration can not be modified except its tolerationSeconds"
        return [forbidden_field("spec.tolerations", detail)]
    return toleration_errors(new, "spec.tolerations")


def _gate_errors(new: Sequence[JSON], old: Sequence[JSON]) -> list[FieldError]:
    known = {gate.get("name", "") for gate in old}
    return [
        forbidden_field(
            f"spec.schedulingGates[{i}].name",
            f"only deletion is allowed, but found new scheduling gate '{gate.get('name', '')}'",
        )
        for i, gate in enumerate(new)
        if gate.get("name", "") not in known
    ]


def _other_changes(new: JSON, old: JSON) -> str:
    """A unified difference of the specs, without what may change; empty if that is all."""
    munged = new | {name: old.get(name) for name in ("activeDeadlineSeconds", "tolerations", "schedulingGates")}
    for name in ("containers", "initContainers"):
        pairs = zip(new.get(name) or (), old.get(name) or (), strict=True)
        munged[name] = [now | {"image": was.get("image", "")} for now, was in pairs]
    if old.get("terminationGracePeriodSeconds", 0) < 0 and new.get("terminationGracePeriodSeconds") == 1:
        munged["terminationGracePeriodSeconds"] = old["terminationGracePeriodSeconds"]
    selector = old.get("nodeSelector")
    if old.get("schedulingGates") and (selector or {}).items() <= (new.get("nodeSelector") or {}).items():
        munged["nodeSelector"] = selector
    before, after = _printed(old), _printed(munged)
    if before == after:
        return ""
    lines = list(difflib.unified_diff(before, after))
    return "".join(lines[2:])  # upstream names no files


def _printed(spec: JSON) -> list[str]:
    """The lines of the spec's internal form as Go prints it."""
    text = json.dumps(pod_spec(spec), indent=2, ensure_ascii=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return [f"{line}\n" for line in text.split("\n")]
