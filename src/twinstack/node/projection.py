"""The files of volumes that show objects of the API: configMap, secret, downwardAPI, projected. Pure.

Messages are kubelet's (pkg/volume/{configmap,secret,projected}, by behaviour).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from twinstack.api import core
from twinstack.node import security
from twinstack.node.environment import Addresses, ConfigError, Source, amount, field
from twinstack.node.sources import Data

KINDS = ("configMap", "secret", "downwardAPI", "projected")
PARTS = ("serviceAccountToken", "configMap", "secret", "downwardAPI")  # of a projected volume
MODE = 0o644
_TOKEN_MODE = 0o600

JSON = Mapping[str, Any]


class Content(NamedTuple):
    data: bytes
    mode: int = MODE
    owner: int = 0


class TokenWish(NamedTuple):
    """A serviceAccountToken of a projected volume."""

    audience: str
    seconds: int


class Facts(NamedTuple):
    """What files are made of, besides the pod: objects by name (None: missing), tokens, the node's resources."""

    addresses: Addresses
    objects: Mapping[Source, Data | None]
    tokens: Mapping[TokenWish, bytes]
    allocatable: Mapping[str, str]


def _parts(volume: JSON) -> Iterator[tuple[str, JSON]]:
    """(kind, wish) of all that a volume shows; a Secret's name is spelled in two ways."""
    for kind in KINDS:
        if kind in volume and kind != "projected":
            wish = dict(volume[kind] or {})
            if kind == "secret":
                wish["name"] = wish.get("secretName", "")
            yield kind, wish
    for part in (volume.get("projected") or {}).get("sources") or []:
        yield from ((kind, part[kind] or {}) for kind in PARTS if kind in part)


def sources(volume: JSON) -> set[Source]:
    """The objects that a volume shows."""
    return {Source(kind, w.get("name", "")) for kind, w in _parts(volume) if kind in ("configMap", "secret")}


def tokens(volume: JSON) -> set[TokenWish]:
    return {token_wish(wish) for kind, wish in _parts(volume) if kind == "serviceAccountToken"}


def token_wish(wish: JSON) -> TokenWish:
    return TokenWish(wish.get("audience") or "", int(wish.get("expirationSeconds") or 3600))


def shows_pod(volume: JSON) -> bool:
    """Whether a change of the pod's labels, annotations or resources can change it."""
    return any(kind == "downwardAPI" for kind, _ in _parts(volume))


def files(pod: core.Pod, volume: JSON, facts: Facts) -> dict[str, Content]:
    """A volume's files by path. Raises ConfigError for what is missing or leads out of it."""
    mode = next((volume[kind].get("defaultMode") for kind in KINDS if volume.get(kind)), None)
    found: dict[str, Content] = {}
    for kind, wish in _parts(volume):
        default = mode if mode is not None else MODE
        if kind == "serviceAccountToken":
            found[wish.get("path", "")] = _token(pod, facts.tokens[token_wish(wish)], default)
        elif kind == "downwardAPI":
            found |= _downward(pod, wish, default, facts)
        else:
            found |= _object(kind, wish, default, facts)
    for path in found:
        check_path(path)
    return found


def _token(pod: core.Pod, data: bytes, mode: int) -> Content:
    """A token is for the one user whom the pod's containers run as, or for its group; else for whoever is inside."""
    user = security.only_user(pod)
    if user is None and security.group(pod) is None:
        return Content(data, mode)
    return Content(data, _TOKEN_MODE, user or 0)


def _downward(pod: core.Pod, wish: JSON, default: int, facts: Facts) -> dict[str, Content]:
    found = {}
    for item in wish.get("items") or []:
        if item.get("fieldRef"):
            text = field(pod, item["fieldRef"].get("fieldPath", ""), facts.addresses)
        else:
            text = amount(pod, "", item.get("resourceFieldRef") or {}, facts.allocatable)
        found[item.get("path", "")] = Content(text.encode(), _mode(item, default))
    return found


def _object(kind: str, wish: JSON, default: int, facts: Facts) -> dict[str, Content]:
    name, optional = wish.get("name", ""), bool(wish.get("optional"))
    data = facts.objects.get(Source(kind, name))
    if data is None:
        if optional:
            return {}
        raise ConfigError(f'{kind.lower()} "{name}" not found')
    items = wish.get("items")
    if not items:
        return {key: Content(value, default) for key, value in data.values.items()}
    found = {}
    for item in items:
        key = item.get("key", "")
        if key in data.values:
            found[item.get("path", "")] = Content(data.values[key], _mode(item, default))
        elif not optional:
            word = (
                "configmap references non-existent config" if kind == "configMap" else "references non-existent secret"
            )
            raise ConfigError(f"{word} key: {key}")
    return found


def _mode(item: JSON, default: int) -> int:
    mode = item.get("mode")
    return int(mode) if mode is not None else default


def check_path(path: str) -> None:
    """Raises ConfigError for a path that is not inside, or that the volume needs for itself."""
    parts = path.split("/")
    if not path or path.startswith("/") or ".." in parts or parts[0].startswith(".."):
        raise ConfigError(f'a path of a volume must stay inside it and not begin with "..": {path}')
