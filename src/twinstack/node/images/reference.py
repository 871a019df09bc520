"""References of images, read and normalised as the distribution project does (distribution/reference). Pure.

`busybox` is `docker.io/library/busybox`, with the tag `latest` where one is needed.
"""

from __future__ import annotations

import re
from typing import NamedTuple

DEFAULT_DOMAIN, DEFAULT_TAG = "docker.io", "latest"
LONGEST_NAME = 255  # characters of domain and path

# Host and port, path, tag, digest.
_HOST = r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*|\[[a-fA-F0-9:]+\])"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"(?P<domain>{_HOST}(?::[0-9]+)?)/(?P<path>{_PART}(?:/{_PART})*)(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}}))?"
    r"(?:@(?P<digest>[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}))?",
    re.ASCII,
)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}", re.ASCII)
_IDENTIFIER = re.compile(r"[0-9a-f]{64}", re.ASCII)


class InvalidReference(ValueError):
    """The text is no reference; says why in the distribution project's words."""


class Reference(NamedTuple):
    """`domain` with its port, `path` below it; without a tag or a digest those are empty."""

    domain: str
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        return f"{self.domain}/{self.path}"

    @property
    def tagged(self) -> str:
        """Name and tag: the default one if it has neither tag nor digest."""
        return f"{self.name}:{self.tag or DEFAULT_TAG}"

    @property
    def digested(self) -> str:
        return f"{self.name}@{self.digest}"

    @property
    def key(self) -> str:
        """What it is stored under: a digest says more than a tag."""
        return self.digested if self.digest else self.tagged

    def __str__(self) -> str:
        return self.name + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def is_digest(text: str) -> bool:
    """Whether it is one of sha256 or sha512."""
    return _DIGEST.fullmatch(text) is not None


def parse(text: str) -> Reference:
    """A normalised reference. Raises InvalidReference."""
    if _IDENTIFIER.fullmatch(text):
        raise InvalidReference(f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings")
    domain, rest = _split(text)
    path = re.split("[:@]", rest, maxsplit=1)[0]
    if path != path.lower():
        raise InvalidReference(f"invalid reference format: repository name ({path}) must be lowercase")
    match = _REFERENCE.fullmatch(f"{domain}/{rest}")
    if match is None:
        raise InvalidReference("invalid reference format")
    found = Reference(domain, match["path"], match["tag"] or "", match["digest"] or "")
    if len(found.name) > LONGEST_NAME:
        raise InvalidReference(f"repository name must not be more than {LONGEST_NAME} characters")
    if found.digest and not is_digest(found.digest):
        known = found.digest.split(":")[0] in ("sha256", "sha512")
        raise InvalidReference("invalid checksum digest length" if known else "unsupported digest algorithm")
    return found


def _split(text: str) -> tuple[str, str]:
    """What comes before the first slash is a host only if it looks like one."""
    first, slash, rest = text.partition("/")
    is_host = slash and ("." in first or ":" in first or first == "localhost" or first != first.lower())
    domain, rest = (first, rest) if is_host else (DEFAULT_DOMAIN, text)
    if domain == "index.docker.io":
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in rest:
        rest = f"library/{rest}"
    return domain, rest
