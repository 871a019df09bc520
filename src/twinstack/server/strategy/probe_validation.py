"""Rules of probes and lifecycle hooks (core/v1 Probe, Lifecycle)."""

from __future__ import annotations

import re
from typing import Any

from twinstack.api.errors import FieldError, forbidden_field, invalid, not_supported, required
from twinstack.api.validation import each, non_negative, port_name, port_number

JSON = dict[str, Any]

_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc", "sleep")
_COUNTS = ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold")
_SCHEMES = ("HTTP", "HTTPS")
_header_name = re.compile(r"[-A-Za-z0-9]+").fullmatch


def probe_errors(probe: JSON, name: str, grace: int, field: str) -> list[FieldError]:
    """`name` is the probe's field: each has a rule of its own."""
    errors = _handler_errors(probe, grace, field)
    for count in _COUNTS:
        errors += non_negative(f"{field}.{count}", probe.get(count, 0))
    own_grace = probe.get("terminationGracePeriodSeconds")
    if own_grace is not None and own_grace <= 0:
        errors.append(invalid(f"{field}.terminationGracePeriodSeconds", own_grace, "must be greater than 0"))
    if name == "readinessProbe":
        if own_grace is not None:
            detail = "must not be set for readinessProbes"
            errors.append(invalid(f"{field}.terminationGracePeriodSeconds", own_grace, detail))
    elif probe.get("successThreshold", 0) != 1:
        errors.append(invalid(f"{field}.successThreshold", probe.get("successThreshold", 0), "must be 1"))
    return errors


def lifecycle_errors(lifecycle: JSON | None, grace: int, field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for hook in ("postStart", "preStop"):
        if lifecycle and hook in lifecycle:
            errors += _handler_errors(lifecycle[hook], grace, f"{field}.{hook}")
    return errors


def _handler_errors(owner: JSON, grace: int, field: str) -> list[FieldError]:
    """Exactly one handler; a second one is named but not looked into."""
    named = [name for name in _HANDLERS if name in owner]
    if not named:
        return [required(field, "must specify a handler type")]
    errors = _action_errors(named[0], owner[named[0]], grace, f"{field}.{named[0]}")
    more = "may not specify more than 1 handler type"
    return errors + [forbidden_field(f"{field}.{name}", more) for name in named[1:]]


def _action_errors(kind: str, action: JSON, grace: int, field: str) -> list[FieldError]:
    if kind == "exec":
        return [] if action.get("command") else [required(f"{field}.command")]
    if kind == "httpGet":
        return _http_errors(action, field)
    if kind == "sleep":
        seconds = action.get("seconds", 0)
        if 0 <= seconds <= grace:
            return []
        detail = f"must be non-negative and less than terminationGracePeriodSeconds ({grace})"
        return [invalid(field, seconds, detail)]
    return port_errors(action.get("port", 0), f"{field}.port")


def _http_errors(action: JSON, field: str) -> list[FieldError]:
    errors = [] if action.get("path") else [required(f"{field}.path")]
    errors += port_errors(action.get("port", 0), f"{field}.port")
    scheme = action.get("scheme", "")
    if scheme not in _SCHEMES:
        errors.append(not_supported(f"{field}.scheme", scheme, _SCHEMES))
    for header in action.get("httpHeaders") or []:
        name = header.get("name", "")
        if not _header_name(name):
            detail = (
                "a valid HTTP header must consist of alphanumeric characters or '-' "
                "(e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')"
            )
            errors.append(invalid(f"{field}.httpHeaders", name, detail))
    return errors


def port_errors(port: int | str, field: str) -> list[FieldError]:
    """A port by number or by name."""
    if isinstance(port, str):
        return each(field, port, port_name(port))
    return [invalid(field, port, message) for message in port_number(port)]
