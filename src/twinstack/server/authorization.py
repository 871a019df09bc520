"""Who may do what: the protocol of an authorizer, and the one that trusts everybody it knows."""

from __future__ import annotations

from typing import Protocol

import msgspec

from twinstack.api.errors import StatusError, qualified
from twinstack.server.authentication import ANONYMOUS
from twinstack.server.messages import Route, UserInfo

_PUBLIC = ("/healthz", "/livez", "/readyz", "/version")


class Attributes(msgspec.Struct, frozen=True):
    """What is asked: a verb on a route, or a lower-case method on a path that is no resource."""

    user: UserInfo
    verb: str
    path: str
    route: Route | None = None


class Authorizer(Protocol):
    """One mode of authorization. RBAC and Node fit in here."""

    def refusal(self, attributes: Attributes) -> str | None:
        """None when allowed, else why not; the reason may be empty."""


class AllowAuthenticated:
    """Everybody who is somebody may do everything; anonymous may see health and version."""

    def refusal(self, attributes: Attributes) -> str | None:
        if attributes.user.name != ANONYMOUS.name or is_public(attributes.path):
            return None
        return ""


def is_public(path: str) -> bool:
    """Whether a path is open to clients without credentials."""
    return any(path == public or path.startswith(f"{public}/") for public in _PUBLIC)


def authorize(authorizer: Authorizer, attributes: Attributes) -> None:
    """Raise StatusError 403 unless allowed."""
    reason = authorizer.refusal(attributes)
    if reason is not None:
        raise _forbidden(attributes, reason)


def _forbidden(attributes: Attributes, reason: str) -> StatusError:
    user, route, tail = attributes.user.name, attributes.route, f": {reason}" if reason else ""
    if route is None:
        message = f'forbidden: User "{user}" cannot {attributes.verb} path "{attributes.path}"{tail}'
        return StatusError(403, "Forbidden", _escaped(message), details={})
    resource = route.resource
    plural = f"{resource.plural}/{route.subresource}" if route.subresource else resource.plural
    name = f' "{route.name}"' if route.name else ""
    scope = f'in the namespace "{route.namespace}"' if route.namespace else "at the cluster scope"
    message = (
        f"{qualified(resource.plural, resource.group)}{name} is forbidden: "
        f'User "{user}" cannot {attributes.verb} resource "{plural}" in API group "{resource.group}" {scope}{tail}'
    )
    details = {"name": route.name} if route.name else {}
    if resource.group:
        details["group"] = resource.group
    return StatusError(403, "Forbidden", _escaped(message), details=details | {"kind": resource.plural})


def _escaped(message: str) -> str:
    return message.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
