"""Which names a definition gets, and the conditions that tell (apiextensions naming and establishing). Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

JSON = dict[str, Any]


def settled(definition: JSON, others: Iterable[JSON], now: str) -> JSON:
    """The status of a definition beside `others`, which may have taken its names before. Unchanged times stay."""
    spec, status = definition["spec"], dict(definition.get("status") or {})
    wanted: JSON = spec["names"]
    accepted: JSON = dict(status.get("acceptedNames") or {})
    taken = _Taken(spec["group"], definition["metadata"]["name"], others)
    conflicts = _conflicts(wanted, accepted, taken)
    for field in ("plural", "singular", "shortNames", "kind", "listKind"):
        if field not in conflicts:
            _take_over(accepted, wanted, field)
    _take_over(accepted, wanted, "categories")
    status["acceptedNames"] = {"kind": "", "plural": ""} | accepted
    established = _status_of(status, "Established") == "True"
    if conflicts:
        *_, (reason, message) = conflicts.values()
        _set(status, "NamesAccepted", "False", reason, message, now)
        if not established:
            _set(status, "Established", "False", "NotAccepted", "not all names are accepted", now)
    else:
        _set(status, "NamesAccepted", "True", "NoConflicts", "no conflicts found", now)
        if not established:
            _set(status, "Established", "True", "InitialNamesAccepted", "the initial names have been accepted", now)
    return status


class _Taken:
    """The names that other definitions of the group have."""

    def __init__(self, group: str, name: str, others: Iterable[JSON]) -> None:
        self.resources: set[str] = set()
        self.kinds: set[str] = set()
        for other in others:
            if other["spec"]["group"] != group or other["metadata"]["name"] == name:
                continue
            names = (other.get("status") or {}).get("acceptedNames") or {}
            self.resources |= {names.get("plural", ""), names.get("singular", ""), *(names.get("shortNames") or ())}
            self.kinds |= {names.get("kind", ""), names.get("listKind", "")}


def _conflicts(wanted: JSON, accepted: JSON, taken: _Taken) -> dict[str, tuple[str, str]]:
    """Reason and message by field, in the order in which upstream looks."""
    found: dict[str, tuple[str, str]] = {}
    for field, reason, names in (
        ("plural", "PluralConflict", taken.resources),
        ("singular", "SingularConflict", taken.resources),
        ("shortNames", "ShortNamesConflict", taken.resources),
        ("kind", "KindConflict", taken.kinds),
        ("listKind", "ListKindConflict", taken.kinds),
    ):
        value = wanted.get(field) or []
        each = value if isinstance(value, list) else [value]
        problems = [f'"{name}" is already in use' for name in each if name in names]
        if problems and accepted.get(field) != wanted.get(field):
            text = problems[0] if len(problems) == 1 else f"[{', '.join(problems)}]"
            found[field] = (reason, text)
    return found


def _take_over(accepted: JSON, wanted: JSON, field: str) -> None:
    if wanted.get(field):
        accepted[field] = wanted[field]
    else:
        accepted.pop(field, None)


def _status_of(status: JSON, kind: str) -> str:
    return next((each["status"] for each in status.get("conditions") or [] if each["type"] == kind), "")


def _set(status: JSON, kind: str, value: str, reason: str, message: str, now: str) -> None:
    status["conditions"] = with_condition(status.get("conditions") or [], kind, value, reason, message, now)


def with_condition(conditions: list[JSON], kind: str, value: str, reason: str, message: str, now: str) -> list[JSON]:
    """The conditions with that one set; its time is that of the last change of its status."""
    old = next((each for each in conditions if each["type"] == kind), None)
    new = {"type": kind, "status": value, "lastTransitionTime": now, "reason": reason, "message": message}
    if old is None:
        return [*conditions, new]
    if old["status"] == value:
        new["lastTransitionTime"] = old.get("lastTransitionTime") or now
    return [new if each is old else each for each in conditions]
