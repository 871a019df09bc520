"""Recorded requests sent again, byte for byte but for what a server chooses, and answers held against the recorded.

A request names objects by what the recorded server chose: uids, versions, generated names, addresses. `Chosen` learns
from each pair of answers what stands for what here, and puts it into the next request. In protobuf bodies uids and
names have the same length; a version may not, so the messages around it get their new length.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

JSON = dict[str, Any]

MAGIC = b"k8s\x00"
_UID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
_MOUNTED = re.compile(r"kube-api-access-[a-z0-9]{5}\Z")  # the volume that admission gives to a Pod
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z\Z")
_RANGES = tuple(ipaddress.ip_network(text) for text in ("10.96.0.0/16", "fd00:96::/112"))
_NODE_PORTS = range(30000, 32768)


class Row(NamedTuple):
    """One request of a recording, and what was answered: `answer` None where that is not compared."""

    client: str
    agent: str
    method: str
    path: str
    accept: str
    type: str | None
    body: dict[str, str] | None
    status: int
    watch: bool
    answer: Any

    def body_bytes(self) -> bytes | None:
        if self.body is None:
            return None
        return base64.b64decode(self.body["base64"]) if "base64" in self.body else self.body["text"].encode()


class Chosen:
    """What the recorded server chose, and what this one chose in its place."""

    def __init__(self, ports: tuple[int, int]) -> None:
        self.words: dict[str, str] = {}  # uids, generated names, addresses
        self.versions: dict[str, str] = {}
        self.ports = ports  # recorded, and here

    def path(self, path: str) -> str:
        path = self.translate(path)
        return re.sub(r"(?<=[?&]resourceVersion=)([1-9]\d*)", lambda found: self.versions.get(found[0], found[0]), path)

    def body(self, body: bytes) -> bytes:
        if body.startswith(MAGIC):
            return MAGIC + _with_version(self._words_in(body[len(MAGIC) :]), (2, 1), 6, self.versions)
        text = self._words_in(body).decode()
        return re.sub(
            r'("resourceVersion":\s*")(\d+)"',
            lambda found: f'{found[1]}{self.versions.get(found[2], found[2])}"',
            text,
        ).encode()

    def translate(self, text: str) -> str:
        for old, new in self.words.items():
            if old in text:
                text = text.replace(old, new)
        return text

    def _words_in(self, data: bytes) -> bytes:
        for old, new in self.words.items():
            word = old.encode()
            if len(old) == len(new) and word in data:
                data = data.replace(word, new.encode())
        return data

    def same(self, path: str, recorded: Any, here: Any) -> bool:
        """Whether two leaves are equal, or one server's choice in the place of the other's; learns which."""
        if recorded == here and type(recorded) is type(here):
            return True
        if isinstance(recorded, int) and isinstance(here, int):
            return (recorded, here) == self.ports or (
                path.endswith("odePort") and recorded in _NODE_PORTS and here in _NODE_PORTS
            )
        if not isinstance(recorded, str) or not isinstance(here, str):
            return False
        if path.endswith("storageVersionHash"):  # of the version in which the server stores a kind
            return True
        if path.endswith(("resourceVersion", "lastSyncResourceVersion")):
            self.versions.setdefault(recorded, here)
            return True
        if _TIME.match(recorded) and _TIME.match(here):
            return True
        if _MOUNTED.match(recorded) and _MOUNTED.match(here):
            return self.words.setdefault(recorded, here) == here
        if (_UID.match(recorded) and _UID.match(here)) or (_chosen_address(recorded) and _chosen_address(here)):
            return self.words.setdefault(recorded, here) == here
        return self.translate(recorded) == here

    def learn_name(self, recorded: Any, here: Any) -> None:
        """A name that the server generated."""
        old, new = recorded["metadata"], here["metadata"]
        if "generateName" in old and old["name"] != new["name"]:
            self.words[old["name"]] = new["name"]


def _chosen_address(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return any(address in block for block in _RANGES)


def _with_version(data: bytes, path: tuple[int, ...], number: int, versions: dict[str, str]) -> bytes:
    """The message with field `number` of the message at `path` translated."""
    out = bytearray()
    position = 0
    while position < len(data):
        start = position
        tag, position = _varint(data, position)
        if tag & 7 == 0:
            _, position = _varint(data, position)
        elif tag & 7 == 2:
            length, begin = _varint(data, position)
            position = begin + length
            value = data[begin:position]
            if path and tag >> 3 == path[0]:
                value = _with_version(value, path[1:], number, versions)
            elif not path and tag >> 3 == number:
                value = versions.get(value.decode(), value.decode()).encode()
            out += data[start:begin][: len(_written(tag))] + _written(len(value)) + value
            continue
        else:
            position += 8 if tag & 7 == 1 else 4
        out += data[start:position]
    return bytes(out)


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def _written(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def differences(chosen: Chosen, recorded: Any, here: Any, path: str = "") -> Iterator[str]:
    """Paths at which the answers differ otherwise than by a server's choice."""
    if isinstance(recorded, dict) and isinstance(here, dict):
        translated = {chosen.translate(key): value for key, value in recorded.items()}
        for key in sorted(translated.keys() | here.keys()):
            at = f"{path}.{key}"
            if key not in here:
                yield f"{at}: gone, was {_short(translated[key])}"
            elif key not in translated:
                yield f"{at}: new, {_short(here[key])}"
            else:
                yield from differences(chosen, translated[key], here[key], at)
    elif isinstance(recorded, list) and isinstance(here, list):
        if path == ".items":
            yield from _items(chosen, recorded, here)
        elif path.endswith("managedFields"):  # their order is that of their times
            yield from differences(chosen, _by_manager(recorded), _by_manager(here), path)
        elif len(recorded) != len(here):
            yield f"{path}: {len(here)} of {len(recorded)}: {_short(here)} for {_short(recorded)}"
        else:
            for number, (one, other) in enumerate(zip(recorded, here, strict=True)):
                yield from differences(chosen, one, other, f"{path}[{number}]")
    elif not chosen.same(path, recorded, here):
        yield f"{path}: {_short(here)} for {_short(recorded)}"


def _items(chosen: Chosen, recorded: list[JSON], here: list[JSON]) -> Iterator[str]:
    """Objects of a list by their names."""
    found = {_name(item): item for item in here}
    for item in recorded:
        name = _name(item)
        name = (name[0], chosen.words.get(name[1], name[1]))
        if name in found:
            yield from differences(chosen, item, found.pop(name), f"[{name[1]}]")
        else:
            yield f"item {'/'.join(name)} is missing"
    for name in found:
        yield f"item {'/'.join(name)} is new"


def _by_manager(entries: list[JSON]) -> dict[str, JSON]:
    return {f"({entry['manager']} {entry['operation']} {entry.get('subresource', '')})": entry for entry in entries}


def _name(item: JSON) -> tuple[str, str]:
    return item["metadata"].get("namespace", ""), item["metadata"]["name"]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 120 else text[:120] + "…"
