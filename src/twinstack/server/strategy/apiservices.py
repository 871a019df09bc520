"""APIServices (apiregistration.k8s.io/v1): which groups and versions there are, and who serves them.

Those without a Service are the server's own. Others are stored, but no request is passed on to them, and they say so:
in their Available condition and in a warning.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from twinstack.api.errors import FieldError, invalid, required
from twinstack.api.validation import dns_subdomain, each, path_segment, port_number
from twinstack.server.strategy.base import Strategy, WriteContext

JSON = dict[str, Any]

_HIGHEST_GROUP, _HIGHEST_VERSION = 20000, 1000
_DEFAULT_PORT = 443
_LABEL_1035 = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_NO_LABEL_1035 = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, "
    "and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is "
    "'[a-z]([-a-z0-9]*[a-z0-9])?')"
)
_NOT_PASSED_ON = "this server passes no requests on to other API servers"


class APIServiceStrategy(Strategy):
    name_rule = staticmethod(path_segment)

    def default(self, obj: JSON) -> None:
        service = obj["spec"].get("service")
        if service is not None:
            service.setdefault("port", _DEFAULT_PORT)

    def prepare_create(self, ctx: WriteContext, obj: JSON) -> None:
        obj["status"] = {"conditions": [_available(obj["spec"], ctx.now)]}

    def prepare_update(self, ctx: WriteContext, new: JSON, old: JSON) -> None:
        if bool(new["spec"].get("service")) != bool(old["spec"].get("service")):
            new["status"] = {"conditions": [_available(new["spec"], ctx.now)]}

    def validate(self, ctx: WriteContext, obj: JSON, old: JSON | None) -> Sequence[FieldError]:
        spec: JSON = obj["spec"]
        return [*_identity(obj["metadata"]["name"], spec), *_priorities(spec), *_target(spec)]

    def warnings(self, ctx: WriteContext, obj: JSON, old: JSON | None) -> list[str]:
        return [f"APIService is stored, but {_NOT_PASSED_ON}"] if obj["spec"].get("service") else []


def _available(spec: JSON, now: str) -> JSON:
    if not spec.get("service"):
        told = {"status": "True", "reason": "Local", "message": "Local APIServices are always available"}
    else:
        told = {"status": "False", "reason": "NotProxied", "message": _NOT_PASSED_ON}
    return {"type": "Available", "lastTransitionTime": now} | told


def _identity(name: str, spec: JSON) -> list[FieldError]:
    group, version = spec.get("group", ""), spec.get("version", "")
    wanted = f"{version}.{group}"
    errors = []
    if name != wanted:
        errors.append(invalid("metadata.name", name, f'must be `spec.version+"."+spec.group`: "{wanted}"'))
    if group:
        errors += each("spec.group", group, dns_subdomain(group))
    elif version != "v1":
        errors.append(required("spec.group", "only v1 may have an empty group and it better be legacy kube"))
    if not _LABEL_1035.fullmatch(version):
        errors.append(invalid("spec.version", version, _NO_LABEL_1035))
    return errors


def _priorities(spec: JSON) -> list[FieldError]:
    highest = {"groupPriorityMinimum": _HIGHEST_GROUP, "versionPriority": _HIGHEST_VERSION}
    return [
        invalid(f"spec.{field}", spec.get(field, 0), f"must be positive and less than {most}")
        for field, most in highest.items()
        if not 0 < spec.get(field, 0) <= most
    ]


def _target(spec: JSON) -> list[FieldError]:
    service, bundle, skips = spec.get("service"), spec.get("caBundle", ""), bool(spec.get("insecureSkipTLSVerify"))
    errors: list[FieldError] = []
    if service is None:
        if bundle:
            size = len(bundle) * 3 // 4 - bundle[-2:].count("=")
            errors.append(invalid("spec.caBundle", f"{size} bytes", "local APIServices may not have a caBundle"))
        if skips:
            detail = "local APIServices may not have insecureSkipTLSVerify"
            errors.append(invalid("spec.insecureSkipTLSVerify", skips, detail))
        return errors
    errors += [required(f"spec.service.{field}") for field in ("namespace", "name") if not service.get(field)]
    port = service.get("port", _DEFAULT_PORT)
    errors += [invalid("spec.service.port", port, f"port is not valid: {message}") for message in port_number(port)]
    if skips and bundle:
        errors.append(invalid("spec.insecureSkipTLSVerify", skips, "may not be true if caBundle is present"))
    return errors
