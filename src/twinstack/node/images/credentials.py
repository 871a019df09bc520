"""Who somebody is to a registry: from the Secrets of pods (kubernetes.io/dockerconfigjson, …/dockercfg). Pure."""

from __future__ import annotations

import base64
import binascii
import fnmatch
import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from twinstack.node.images.reference import DEFAULT_DOMAIN, Reference

CONFIG, LEGACY = ".dockerconfigjson", ".dockercfg"  # keys in Secrets
_DOCKER_HUB = ("docker.io", "index.docker.io", "registry-1.docker.io")


class Credentials(NamedTuple):
    """Name and password, or instead of a password a token that another one is got with (OAuth 2)."""

    user: str = ""
    password: str = ""
    identity_token: str = ""

    def __repr__(self) -> str:
        return f"Credentials(user={self.user!r})"  # the rest is in no log


class Entry(NamedTuple):
    """What the registry at a place is told: `place` is a host, which may have a port, `*` and a path."""

    place: str
    credentials: Credentials


def entries(secret: Mapping[str, bytes]) -> list[Entry]:
    """What a Secret holds. Raises ValueError, which quotes nothing of it, when that cannot be read."""
    if CONFIG in secret:
        found = _object(secret[CONFIG]).get("auths") or {}
    elif LEGACY in secret:
        found = _object(secret[LEGACY])
    else:
        raise ValueError(f"it has neither {CONFIG} nor {LEGACY}")
    if not isinstance(found, dict) or not all(isinstance(row, dict) for row in found.values()):
        raise ValueError("its registries are no objects")
    return [Entry(_place(url), _credentials(row)) for url, row in found.items()]


def matching(known: Iterable[Entry], reference: Reference) -> list[Credentials]:
    """Those for an image, the longest place first (kubelet's keyring), none twice."""
    rows = [entry for entry in known if _fits(entry.place, reference)]
    rows.sort(key=lambda entry: len(entry.place), reverse=True)
    return list(dict.fromkeys(row.credentials for row in rows))


def _object(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise ValueError("it is no JSON") from None
    if not isinstance(found, dict):
        raise ValueError("it is no JSON object")
    return found


def _credentials(row: dict[str, Any]) -> Credentials:
    user, password = str(row.get("username") or ""), str(row.get("password") or "")
    if row.get("auth"):
        try:
            text = base64.b64decode(str(row["auth"])).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise ValueError("its auth is no text in base64") from None
        user, colon, password = text.partition(":")
        if not colon:
            raise ValueError("its auth is not USER:PASSWORD")
    return Credentials(user, password.strip("\0"), str(row.get("identitytoken") or ""))


def _place(url: str) -> str:
    """Host and path: `https://index.docker.io/v1/` has none that says anything."""
    host, slash, path = url.removeprefix("https://").removeprefix("http://").partition("/")
    if path.strip("/") in ("v1", "v2", ""):
        slash = path = ""
    if host in _DOCKER_HUB:
        host = DEFAULT_DOMAIN
    return host + slash + path.strip("/")


def _fits(place: str, reference: Reference) -> bool:
    """Part by part of the host's name, so that `*` stands for one part; a path is the beginning of the image's."""
    host, _, path = place.partition("/")
    parts, own = host.split("."), reference.domain.split(".")
    if host != reference.domain and (
        len(parts) != len(own) or not all(fnmatch.fnmatchcase(b, a) for a, b in zip(parts, own, strict=True))
    ):
        return False
    return not path or f"{reference.path}/".startswith(f"{path}/")
