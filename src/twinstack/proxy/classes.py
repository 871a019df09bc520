"""Classes of front ends: what is done before an endpoint is picked, among how many, and for how long clients stay.

A class is a chain; front ends name it by a word of 32 bits. Their number grows with the variety of front ends and
not with their number.
"""

from __future__ import annotations

import enum
import re
import struct
from functools import cache
from typing import NamedTuple

MOST_EXACT = 0xFFF  # endpoints up to which there is a class for every number of them

_MAGIC = 0x7A << 24  # far from any priority that applications and queueing disciplines use
_NUMBERED = 0x7B << 24


class Kind(enum.IntEnum):
    """What a class chain does before it picks an endpoint."""

    CLUSTER = 0  # masquerade sources that are not local pods
    EXTERNAL = 1  # masquerade every source
    NODE_PORT = 2  # as EXTERNAL, by port
    EXTERNAL_LOCAL = 3  # this node and its pods go on to the near endpoints; nobody else is masqueraded
    NODE_PORT_LOCAL = 4  # as EXTERNAL_LOCAL, by port
    NEAR = 5  # nothing: the chain before it has decided
    NEAR_PORT = 6  # as NEAR, by port
    GUARD = 7  # drop sources outside the front end's ranges; the others go on to its class proper
    DROP = 14
    REJECT = 15

    @property
    def by_port(self) -> bool:
        return self in (Kind.NODE_PORT, Kind.NODE_PORT_LOCAL, Kind.NEAR_PORT)

    @property
    def near(self) -> bool:
        return self in (Kind.NEAR, Kind.NEAR_PORT)

    @property
    def is_local(self) -> bool:
        return self in (Kind.EXTERNAL_LOCAL, Kind.NODE_PORT_LOCAL)


# None of them is a word of nft's own language.
_NAMES = {
    Kind.CLUSTER: "cluster",
    Kind.EXTERNAL: "external",
    Kind.NODE_PORT: "node-port",
    Kind.EXTERNAL_LOCAL: "external-local",
    Kind.NODE_PORT_LOCAL: "node-port-local",
    Kind.NEAR: "near",
    Kind.NEAR_PORT: "near-port",
    Kind.GUARD: "guard",
    Kind.DROP: "discard",
    Kind.REJECT: "refuse",
}
_KINDS = {name: kind for kind, name in _NAMES.items()}
_CHAIN = re.compile(rf"({'|'.join(_KINDS)})(?:-(\d+))?(?:-affinity-(\d+))?")


class Class(NamedTuple):
    """`size` is the number that random indexes stay below: that of the endpoints, or a power of two above it."""

    kind: Kind
    size: int = 0
    affinity: int = 0  # seconds

    @property
    def chain(self) -> str:
        name = _NAMES[self.kind]
        name += f"-{self.size}" if self.size or self.kind.is_local else ""
        return f"{name}-affinity-{self.affinity}" if self.affinity else name

    @classmethod
    def parse(cls, chain: str) -> Class | None:
        """The class of a chain, or None for other chains."""
        found = _CHAIN.fullmatch(chain)
        return cls(_KINDS[found[1]], int(found[2] or 0), int(found[3] or 0)) if found is not None else None


DROP, REJECT, GUARD = Class(Kind.DROP), Class(Kind.REJECT), Class(Kind.GUARD)


def size_for(count: int) -> int:
    """Up to MOST_EXACT endpoints are counted, lest the choice favours any; of more there are few classes.

    An index of no endpoint is drawn again there.
    """
    return count if count <= MOST_EXACT else 1 << (count - 1).bit_length()


@cache
def class_for(kind: Kind, count: int) -> Class:
    """The class of front ends with so many endpoints."""
    return Class(kind, size_for(count))


@cache
def plain_word(class_: Class) -> bytes | None:
    """Magic, kind, size; the lowest four bits stay 0, which priority bands read as best effort.

    None when the class does not fit: it gets a number.
    """
    if class_.affinity or class_.size > MOST_EXACT:
        return None
    return struct.pack("=I", _MAGIC | class_.kind << 16 | class_.size << 4)


def numbered_word(number: int) -> bytes:
    return struct.pack("=I", _NUMBERED | number << 4)


class Words:
    """The words of the classes in use. Numbered ones are read back from the kernel, where they outlive us."""

    def __init__(self) -> None:
        self._by_class: dict[Class, bytes] = {}
        self._by_word: dict[bytes, Class] = {}
        self._next = 1

    def of(self, class_: Class) -> bytes:
        word = self._by_class.get(class_)
        if word is None:
            word = plain_word(class_)
            while word is None or word in self._by_word:
                word = numbered_word(self._next)
                self._next += 1
            self.learn(word, class_)
        return word

    def known(self, class_: Class) -> bytes | None:
        """The word of a class that is in use."""
        return self._by_class.get(class_)

    def learn(self, word: bytes, class_: Class) -> None:
        self._by_class[class_] = word
        self._by_word[word] = class_

    def read(self, word: bytes) -> Class | None:
        return self._by_word.get(word)
