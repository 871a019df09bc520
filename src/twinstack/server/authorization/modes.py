"""The modes of `--authorization-mode` that need no data, and the row of those that a server is started with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from twinstack.server.authentication import ANONYMOUS
from twinstack.server.authorization.decisions import MASTERS, Attributes, Authorizer, Decision, Rules, Union, Verdict
from twinstack.server.messages import UserInfo

_PUBLIC = ("/healthz", "/livez", "/readyz", "/version")
_ALLOWED = Decision(Verdict.ALLOW)
_NO_OPINION = Decision(Verdict.NO_OPINION)
_EVERYTHING = Rules(
    [
        {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]},
        {"verbs": ["*"], "nonResourceURLs": ["*"]},
    ]
)


class AlwaysAllow:
    """Everybody who is somebody may do everything. Upstream turns anonymous requests off with this mode; here they
    may still see health and version, as with RBAC, so that a probe needs no credentials."""

    def authorize(self, attributes: Attributes) -> Decision:
        if attributes.user.name != ANONYMOUS.name:
            return _ALLOWED
        return _ALLOWED if not attributes.resource_request and _is_public(attributes.path) else _NO_OPINION

    def rules_for(self, user: UserInfo, namespace: str) -> Rules:
        return _EVERYTHING if user.name != ANONYMOUS.name else Rules()


def _is_public(path: str) -> bool:
    return any(path == public or path.startswith(f"{public}/") for public in _PUBLIC)


class AlwaysDeny:
    """Nobody may do anything."""

    def authorize(self, attributes: Attributes) -> Decision:
        return Decision(Verdict.NO_OPINION, "Everything is forbidden.")

    def rules_for(self, user: UserInfo, namespace: str) -> Rules:
        return Rules()


class Masters:
    """Members of system:masters may do everything: comes before every mode."""

    def authorize(self, attributes: Attributes) -> Decision:
        return _ALLOWED if MASTERS in attributes.user.groups else _NO_OPINION

    def rules_for(self, user: UserInfo, namespace: str) -> Rules:
        return Rules()


def in_order(modes: Sequence[str], makers: Mapping[str, Callable[[], Authorizer]]) -> Authorizer:
    """The authorizer of a server whose `--authorization-mode` is `modes`; `makers` has one entry a mode."""
    return Union([Masters(), *(makers[mode]() for mode in modes)])
