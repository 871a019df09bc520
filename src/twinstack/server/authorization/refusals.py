"""The words of a refusal (apiserver's responsewriters.Forbidden)."""

from __future__ import annotations

from twinstack.api.errors import StatusError, go_value, internal_error, qualified
from twinstack.server.authorization.decisions import Attributes, Authorizer


def require(authorizer: Authorizer, attributes: Attributes) -> None:
    """Raise StatusError unless allowed: 403, or 500 when an authorizer could not tell."""
    decision = authorizer.authorize(attributes)
    if decision.allowed:
        return
    if decision.error:
        raise internal_error(decision.error)
    raise forbidden(attributes, decision.reason)


def forbidden(attributes: Attributes, reason: str) -> StatusError:
    """Status 403 that says who may not do what, and `reason` if there is one."""
    text = _escaped(_sentence(attributes)) + (f": {reason}" if reason else "")
    resource, group, name = attributes.resource, attributes.group, attributes.name
    if not resource:
        return StatusError(403, "Forbidden", f"forbidden: {text}", details={})
    named = f" {go_value(name)}" if name else ""
    details = {"name": name} if name else {}
    if group:
        details["group"] = group
    message = f"{qualified(resource, group)}{named} is forbidden: {text}"
    return StatusError(403, "Forbidden", message, details=details | {"kind": resource})


def _sentence(attributes: Attributes) -> str:
    user, verb = go_value(attributes.user.name), attributes.verb
    if not attributes.resource_request:
        return f"User {user} cannot {verb} path {go_value(attributes.path)}"
    resource = attributes.resource + (f"/{attributes.subresource}" if attributes.subresource else "")
    where = f"in the namespace {go_value(attributes.namespace)}" if attributes.namespace else "at the cluster scope"
    return f"User {user} cannot {verb} resource {go_value(resource)} in API group {go_value(attributes.group)} {where}"


def _escaped(message: str) -> str:
    return message.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
