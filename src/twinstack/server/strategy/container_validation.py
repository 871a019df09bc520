"""Rules of containers (core/v1 Container), in the order in which the API server reports them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from twinstack.api.errors import (
    ErrorType,
    FieldError,
    duplicate,
    forbidden_field,
    go_value,
    invalid,
    not_supported,
    required,
    too_many,
)
from twinstack.api.validation import dns_label, each, port_name, port_number
from twinstack.server.strategy.capabilities import privileged_allowed
from twinstack.server.strategy.environment_validation import env_errors
from twinstack.server.strategy.probe_validation import lifecycle_errors, probe_errors
from twinstack.server.strategy.resource_validation import requirements_errors

JSON = dict[str, Any]

_PROTOCOLS = ("SCTP", "TCP", "UDP")
_MESSAGE_POLICIES = ("File", "FallbackToLogsOnError")
_PULL_POLICIES = ("Always", "IfNotPresent", "Never")
_PROPAGATIONS = ("Bidirectional", "HostToContainer", "None")
_RECURSIVE = ("Disabled", "Enabled", "IfPossible")
_RESIZED, _RESIZE_POLICIES = ("cpu", "memory"), ("NotRequired", "RestartContainer")
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_RESTARTS, _CODE_OPERATORS = ("Always", "Never", "OnFailure"), ("In", "NotIn")
_MOST_RULES, _MOST_CODES = 20, 255  # restart rules of a container, exit codes of a rule
_ONLY_SIDECARS = "may not be set for init containers without restartPolicy=Always"
_MAX_ID = 2**31 - 1


def container_errors(spec: JSON, volumes: Collection[str], field: str) -> list[FieldError]:
    """Of all containers of a PodSpec; `volumes` are the names that may be mounted."""
    grace = spec.get("terminationGracePeriodSeconds") or 0
    regular = spec.get("containers") or []
    errors = _regular_errors(regular, volumes, grace, f"{field}.containers")
    names = {container.get("name", "") for container in regular}
    at = f"{field}.initContainers"
    for i, container in enumerate(spec.get("initContainers") or []):
        errors += _init_errors(container, volumes, grace, names, at, i)
    for kind in ("containers", "initContainers"):
        for i, container in enumerate(spec.get(kind) or []):
            policies, never = container.get("resizePolicy") or [], spec.get("restartPolicy") == "Never"
            errors += _resize_errors(policies, f"{field}.{kind}[{i}].resizePolicy", never=never)
    return errors


def _resize_errors(policies: Sequence[JSON], field: str, *, never: bool) -> list[FieldError]:
    """Each resource once. `never`: containers are not restarted, for no reason."""
    errors: list[FieldError] = []
    names: set[str] = set()
    for i, policy in enumerate(policies):
        name, restart = policy.get("resourceName", ""), policy.get("restartPolicy", "")
        if name in names:
            errors.append(duplicate(f"{field}[{i}]", name))
        names.add(name)
        for value, known in ((name, _RESIZED), (restart, _RESIZE_POLICIES)):
            if not value:
                errors.append(required(field))
            elif value not in known:
                errors.append(not_supported(field, value, known))
        if never and restart != "NotRequired":
            errors.append(invalid(field, restart, "must be 'NotRequired' when `restartPolicy` is 'Never'"))
    return errors


def _regular_errors(containers: Sequence[JSON], volumes: Collection[str], grace: int, field: str) -> list[FieldError]:
    if not containers:
        return [required(field)]
    errors: list[FieldError] = []
    names: set[str] = set()
    for i, container in enumerate(containers):
        at, name = f"{field}[{i}]", container.get("name", "")
        errors += common_errors(container, volumes, at)
        if name in names:
            errors.append(duplicate(f"{at}.name", name))
        names.add(name)
        errors += _running_errors(container, grace, at)
        errors += _restart_errors(container, at)
    return errors + _host_port_errors(containers, field)


def _init_errors(
    container: JSON, volumes: Collection[str], grace: int, names: set[str], field: str, index: int
) -> list[FieldError]:
    at, name = f"{field}[{index}]", container.get("name", "")
    errors = common_errors(container, volumes, at)
    policy = container.get("restartPolicy")
    errors += _restart_errors(container, at)
    if name in names:
        errors.append(duplicate(f"{at}.name", name))
    elif name:
        names.add(name)
    errors += _host_port_errors([container], field)
    if policy == "Always":
        return errors + _running_errors(container, grace, at)
    forbidden = [name for name in ("lifecycle", *_PROBES) if name in container]
    return errors + [forbidden_field(f"{at}.{name}", _ONLY_SIDECARS) for name in forbidden]


def _restart_errors(container: JSON, field: str) -> list[FieldError]:
    """A container's own restartPolicy, and its rules by exit codes (KEP-5307)."""
    errors: list[FieldError] = []
    policy, rules = container.get("restartPolicy"), container.get("restartPolicyRules") or []
    if policy is not None and policy not in _RESTARTS:
        errors.append(not_supported(f"{field}.restartPolicy", policy, _RESTARTS))
    if rules and policy is None:
        errors.append(required(f"{field}.restartPolicy", "must specify restartPolicy when restart rules are used"))
    if len(rules) > _MOST_RULES:
        errors.append(too_many(f"{field}.restartPolicyRules", len(rules), _MOST_RULES))
    for i, rule in enumerate(rules):
        at, action, codes = f"{field}.restartPolicyRules[{i}]", rule.get("action", ""), rule.get("exitCodes")
        if action != "Restart":
            errors.append(not_supported(f"{at}.action", action, ("Restart",)))
        if codes is None:
            errors.append(required(f"{at}.exitCodes", "must be specified"))
            continue
        operator, values = codes.get("operator", ""), codes.get("values") or []
        if operator not in _CODE_OPERATORS:
            errors.append(not_supported(f"{at}.exitCodes.operator", operator, _CODE_OPERATORS))
        if len(values) > _MOST_CODES:
            errors.append(too_many(f"{at}.exitCodes.values", len(values), _MOST_CODES))
    return errors


def _running_errors(container: JSON, grace: int, field: str) -> list[FieldError]:
    """What containers that stay may have."""
    errors = lifecycle_errors(container.get("lifecycle"), grace, f"{field}.lifecycle")
    for name in _PROBES:
        if name in container:
            errors += probe_errors(container[name], name, grace, f"{field}.{name}")
    return errors


def common_errors(container: JSON, volumes: Collection[str], field: str) -> list[FieldError]:
    """Of any container."""
    name, policy = container.get("name", ""), container.get("terminationMessagePolicy", "")
    pull = container.get("imagePullPolicy", "")
    errors = each(f"{field}.name", name, dns_label(name)) if name else [required(f"{field}.name")]
    if not container.get("image"):
        errors.append(required(f"{field}.image"))
    if policy not in _MESSAGE_POLICIES:
        errors.append(not_supported(f"{field}.terminationMessagePolicy", policy, _MESSAGE_POLICIES))
    errors += _port_errors(container.get("ports") or [], f"{field}.ports")
    errors += env_errors(container, field)
    privileged = bool((container.get("securityContext") or {}).get("privileged"))
    errors += _mount_errors(
        container.get("volumeMounts") or [], volumes, f"{field}.volumeMounts", privileged=privileged
    )
    if not pull:
        errors.append(required(f"{field}.imagePullPolicy"))
    elif pull not in _PULL_POLICIES:
        errors.append(not_supported(f"{field}.imagePullPolicy", pull, _PULL_POLICIES))
    errors += requirements_errors(container.get("resources") or {}, f"{field}.resources")
    return errors + _security_errors(container.get("securityContext") or {}, f"{field}.securityContext")


def _port_errors(ports: Sequence[JSON], field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    names: set[str] = set()
    for i, port in enumerate(ports):
        at, name = f"{field}[{i}]", port.get("name", "")
        number, host, protocol = port.get("containerPort", 0), port.get("hostPort", 0), port.get("protocol", "")
        problems = port_name(name) if name else []
        errors += each(f"{at}.name", name, problems)
        if name and not problems:
            if name in names:
                errors.append(duplicate(f"{at}.name", name))
            names.add(name)
        if number == 0:
            errors.append(required(f"{at}.containerPort"))
        else:
            errors += [invalid(f"{at}.containerPort", number, message) for message in port_number(number)]
        if host:
            errors += [invalid(f"{at}.hostPort", host, message) for message in port_number(host)]
        if not protocol:
            errors.append(required(f"{at}.protocol"))
        elif protocol not in _PROTOCOLS:
            errors.append(not_supported(f"{at}.protocol", protocol, _PROTOCOLS))
    return errors


def _host_port_errors(containers: Sequence[JSON], field: str) -> list[FieldError]:
    """A port of the host goes to one container only."""
    errors: list[FieldError] = []
    taken: set[str] = set()
    for i, container in enumerate(containers):
        for j, port in enumerate(container.get("ports") or []):
            if not port.get("hostPort"):
                continue
            text = f"{port.get('protocol', '')}/{port.get('hostIP', '')}/{port['hostPort']}"
            if text in taken:
                errors.append(duplicate(f"{field}[{i}].ports[{j}].hostPort", text))
            taken.add(text)
    return errors


def _mount_errors(
    mounts: Sequence[JSON], volumes: Collection[str], field: str, *, privileged: bool
) -> list[FieldError]:
    errors: list[FieldError] = []
    paths: set[str] = set()
    for i, mount in enumerate(mounts):
        at, name, path = f"{field}[{i}]", mount.get("name", ""), mount.get("mountPath", "")
        if not name:
            errors.append(required(f"{at}.name"))
        if name not in volumes:
            errors.append(FieldError(ErrorType.NOT_FOUND, f"{at}.name", f"Not found: {go_value(name)}"))
        if not path:
            errors.append(required(f"{at}.mountPath"))
        if path in paths:
            errors.append(invalid(f"{at}.mountPath", path, "must be unique"))
        paths.add(path)
        for part in ("subPath", "subPathExpr"):
            errors += _descending_errors(mount.get(part, ""), f"{field}.{part}")
        if mount.get("subPath") and mount.get("subPathExpr"):
            detail = "subPathExpr and subPath are mutually exclusive"
            errors.append(invalid(f"{at}.subPathExpr", mount["subPathExpr"], detail))
        errors += _mode_errors(mount, field, privileged=privileged)
    return errors


def _mode_errors(mount: JSON, field: str, *, privileged: bool) -> list[FieldError]:
    """Which later mounts are seen, and what is read-only below; the server names no index here."""
    errors: list[FieldError] = []
    propagation, recursive = mount.get("mountPropagation"), mount.get("recursiveReadOnly")
    at = f"{field}.mountPropagation"
    if propagation is not None and propagation not in _PROPAGATIONS:
        errors.append(not_supported(at, propagation, _PROPAGATIONS))
    if propagation == "Bidirectional" and not privileged:
        detail = "Bidirectional mount propagation is available only to privileged containers"
        errors.append(forbidden_field(at, detail))
    at = f"{field}.recursiveReadOnly"
    if recursive is not None and recursive not in _RECURSIVE:
        errors.append(not_supported(at, recursive, _RECURSIVE))
    elif recursive in ("Enabled", "IfPossible"):
        if not mount.get("readOnly"):
            errors.append(forbidden_field(at, "may only be specified when readOnly is true"))
        if propagation not in (None, "None"):
            detail = "may only be specified when mountPropagation is None or not specified"
            errors.append(forbidden_field(at, detail))
    return errors


def _descending_errors(path: str, field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if path.startswith("/"):
        errors.append(invalid(field, path, "must be a relative path"))
    if ".." in path.split("/"):
        errors.append(invalid(field, path, "must not contain '..'"))
    return errors


def _security_errors(context: JSON, field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if context.get("privileged") and not privileged_allowed():
        errors.append(forbidden_field(f"{field}.privileged", "disallowed by cluster policy"))
    errors += id_errors(context, ("runAsUser", "runAsGroup"), field)
    if context.get("privileged") and context.get("allowPrivilegeEscalation") is False:
        detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
        errors.append(invalid(field, context, detail))
    return errors


def id_errors(context: JSON, names: Sequence[str], field: str) -> list[FieldError]:
    """User and group numbers."""
    return [
        invalid(f"{field}.{name}", context[name], f"must be between 0 and {_MAX_ID}, inclusive")
        for name in names
        if name in context and not 0 <= context[name] <= _MAX_ID
    ]
