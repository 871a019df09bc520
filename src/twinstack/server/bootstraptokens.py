"""Bootstrap tokens: how a machine that is no node yet shows that it may become one.

Secrets `kube-system/bootstrap-token-ID` of type bootstrap.kubernetes.io/token (kubernetes.io/docs, "Authenticating
with Bootstrap Tokens").
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from twinstack.api import times
from twinstack.api.resources import resource
from twinstack.server.authentication import AUTHENTICATED, Known
from twinstack.server.messages import UserInfo
from twinstack.server.strategy.base import Reader

SECRETS = resource("", "secrets")
TYPE = "bootstrap.kubernetes.io/token"
_NAMESPACE = "kube-system"
_TOKEN = re.compile(r"([a-z0-9]{6})\.([a-z0-9]{16})")
_GROUP = "system:bootstrappers"
_EXTRA_GROUP = re.compile(r"system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]")


class BootstrapTokens:
    """Authenticates them against the Secrets that are there. `audiences`: for whom they count."""

    def __init__(self, reader: Reader, audiences: Sequence[str]) -> None:
        self._reader = reader
        self._audiences = tuple(audiences)

    def authenticate(self, token: str, digest: bytes, audiences: Sequence[str] = ()) -> Known | None:
        match = _TOKEN.fullmatch(token)
        if match is None:
            return None
        secret = self._reader.get(SECRETS, _NAMESPACE, f"bootstrap-token-{match[1]}")
        if secret is None or secret.get("type") != TYPE or secret["metadata"].get("deletionTimestamp"):
            return None
        groups = groups_of(match[1], match[2], _texts(secret.get("data") or {}), time.time())
        common = tuple(each for each in self._audiences if not audiences or each in audiences)
        if groups is None or not common:
            return None
        return Known(UserInfo(f"system:bootstrap:{match[1]}", (*groups, AUTHENTICATED)), common)


def groups_of(token_id: str, secret: str, data: Mapping[str, str], now: float) -> tuple[str, ...] | None:
    """The groups of who shows a token, None if it does not count. `data` is the Secret's; `now` Unix seconds."""
    if not hmac.compare_digest(data.get("token-secret", ""), secret) or data.get("token-id") != token_id:
        return None
    if _has_expired(data.get("expiration", ""), now) or data.get("usage-bootstrap-authentication") != "true":
        return None
    extra = sorted({each.strip() for each in data.get("auth-extra-groups", "").split(",") if each.strip()})
    if not all(_EXTRA_GROUP.fullmatch(group) for group in extra):
        return None
    return (_GROUP, *extra)


def _has_expired(text: str, now: float) -> bool:
    """Of an RFC 3339 time; one that cannot be read has passed."""
    if not text:
        return False
    try:
        return times.parse_time(text) <= now
    except ValueError:
        return True


def _texts(data: Mapping[str, Any]) -> dict[str, str]:
    texts = {}
    for key, value in data.items():
        try:
            texts[key] = base64.b64decode(value).decode("ascii")
        except (binascii.Error, UnicodeDecodeError):
            continue  # nothing that a token says
    return texts
