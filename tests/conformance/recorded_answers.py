"""Answers as the recording tells them, rebuilt into whole values that a real answer can be held against.

A recorded answer shows an object whole once (`object`), later only what differs from its last showing (`of`, `set`,
`gone`). Placeholders stand for what a server chooses: `<time>` for any time, `<dynamic-v4-0>` for one address, the
same wherever it stands in a scenario, `<rv2>` for the second version seen of an object.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from typing import Any

JSON = dict[str, Any]

_PLACEHOLDER = re.compile(
    r"<(?:rv\d*|uid|time|age|dynamic-v[46](?:-\d+)?|nodeport(?:-\d+)?|generated|continue|object|difference)>"
)
_CUT = re.compile(r"… <\d+ characters>\Z")
_PATTERNS = {
    "uid": r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    "time": r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?: ?(?:Z|[+-]\d\d:?\d\d)(?: UTC)?)",
    "age": r"(?:<unknown>|(?:\d+[smhdy])+)",
    "rv": r"\d+",
    "dynamic": r"[0-9a-f.:]+",
    "nodeport": r"\d+",
    "generated": r"\S+",
    "continue": r"\S+",
    "object": r".*",
    "difference": r".*",
}
# What lists and watches show of an object in the recording.
_BRIEF = {
    "": ("kind", "apiVersion", "addressType", "data", "type"),
    "metadata": (
        "name", "namespace", "labels", "resourceVersion", "generation", "deletionTimestamp",
        "deletionGracePeriodSeconds", "finalizers",
    ),
    "spec": ("type", "clusterIP", "nodeName", "unschedulable", "finalizers"),
    "status": ("phase", "podIP"),
}  # fmt: skip


class Names:
    """What each placeholder turned out to stand for in one scenario."""

    def __init__(self) -> None:
        self.bound: dict[str, str] = {}

    def fill(self, text: str) -> str:
        """A request's text with what its placeholders stand for."""
        return _PLACEHOLDER.sub(lambda found: self.bound.get(found[0], found[0]), text)

    def match(self, wanted: str, shown: str, owner: str = "") -> bool:
        """`owner` is the object whose versions `<rvN>` counts."""
        if "<" not in wanted and "…" not in wanted:
            return wanted == shown
        cut = _CUT.search(wanted)
        if cut:
            return self.starts(wanted[: cut.start()], shown)
        if "<difference>" in wanted:
            shown = re.sub(r"\s+", " ", shown.replace("\u00a0", " "))
        pattern, names = _compiled(wanted)
        whole = pattern.fullmatch(shown)
        if whole is None:
            return False
        return all(self._bind(name, value, owner) for name, value in zip(names, whole.groups(), strict=True))

    def starts(self, wanted: str, shown: str) -> bool:
        """Whether `shown` begins as a text does that the recording has cut."""
        return _compiled(re.sub(r"<[^<>]*\Z", "", wanted))[0].match(shown) is not None

    def _bind(self, name: str, value: str, owner: str) -> bool:
        if not re.search(r"(?:-|rv)\d+>\Z", name):
            return True
        key = f"{owner} {name}" if name.startswith("<rv") else name
        return self.bound.setdefault(key, value) == value


def _compiled(wanted: str) -> tuple[re.Pattern[str], list[str]]:
    """The text as a pattern with a group for each placeholder, and those."""
    pattern, start = "", 0
    names: list[str] = []
    for found in _PLACEHOLDER.finditer(wanted):
        pattern += re.escape(wanted[start : found.start()]) + f"({_pattern(found[0])})"
        names.append(found[0])
        start = found.end()
    return re.compile(pattern + re.escape(wanted[start:]), re.DOTALL), names


def _pattern(placeholder: str) -> str:
    return _PATTERNS[re.sub(r"[-\d].*", "", placeholder.strip("<>"))]


def alike(names: Names, wanted: Any, shown: Any, owner: str = "") -> bool:
    """Equal, where `wanted` is no placeholder."""
    if isinstance(wanted, dict) and isinstance(shown, dict):
        return wanted.keys() == shown.keys() and all(alike(names, wanted[key], shown[key], owner) for key in wanted)
    if isinstance(wanted, list) and isinstance(shown, list):
        return len(wanted) == len(shown) and all(
            alike(names, one, other, owner) for one, other in zip(wanted, shown, strict=True)
        )
    if isinstance(wanted, str):
        return names.match(wanted, shown if isinstance(shown, str) else str(shown), owner)
    return type(wanted) is type(shown) and bool(wanted == shown)


def brief(obj: JSON) -> JSON:
    out = {key: obj[key] for key in _BRIEF[""] if key in obj}
    for part in ("metadata", "spec", "status"):
        found = obj.get(part)
        kept = {key: found[key] for key in _BRIEF[part] if key in found} if isinstance(found, dict) else {}
        if kept:
            out[part] = kept
    return out


class Memory:
    """The last showing of every object, by which the next one is told."""

    def __init__(self) -> None:
        self._last: dict[str, JSON] = {}

    def whole(self, told: Mapping[str, Any], *, is_brief: bool, kind: str = "") -> tuple[str, JSON]:
        """Name and content of the object that an answer, an item or an event tells."""
        obj: JSON
        if "object" in told:
            obj = copy.deepcopy(told["object"])
            meta = obj.get("metadata") or {}
            path = "/".join(filter(None, (meta.get("namespace"), meta.get("name"))))
            name = " ".join(filter(None, (obj.get("kind") or kind, path)))
        else:
            name = told["of"]
            obj = copy.deepcopy(self._last[name + is_brief * " (brief)"])
            for path, value in (told.get("set") or {}).items():
                _put(obj, _keys(obj, path), value)
            for path in told.get("gone") or ():
                _put(obj, _keys(obj, path), None, remove=True)
        self._last[name + is_brief * " (brief)"] = copy.deepcopy(obj)
        return name, obj


def _keys(obj: JSON, path: str) -> list[str | int]:
    """A path such as `spec.ports[0].name`; names with dots are found by what the object has."""
    keys: list[str | int] = []
    at: Any = obj
    rest = path
    while rest:
        index = re.match(r"\[(\d+)\]\.?", rest)
        if index and isinstance(at, list):
            keys.append(int(index[1]))
            at, rest = at[int(index[1])], rest[index.end() :]
            continue
        name = _name(at, rest)
        keys.append(name)
        at = at.get(name) if isinstance(at, dict) else None
        rest = rest[len(name) :].removeprefix(".")
    return keys


def _name(at: Any, rest: str) -> str:
    """The next name: the longest one that the object has, else all that is left, up to a nested path."""
    known = (
        [key for key in at if rest == key or rest.startswith((f"{key}.", f"{key}["))] if isinstance(at, dict) else []
    )
    return max(known, key=len) if known else rest


def _put(obj: Any, keys: Sequence[str | int], value: Any, *, remove: bool = False) -> None:
    for key in keys[:-1]:
        obj = obj[key]
    if remove:
        del obj[keys[-1]]
    else:
        obj[keys[-1]] = copy.deepcopy(value)
