"""Rules of a PodSpec (core/v1), in Pods and in the templates of workloads, in the API server's order."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from twinstack.api import validation
from twinstack.api.errors import FieldError, duplicate, invalid, not_supported, required
from twinstack.api.validation import dns_label, dns_subdomain, each, qualified_name
from twinstack.server.strategy.container_validation import container_errors, id_errors
from twinstack.server.strategy.pod_defaults import containers
from twinstack.server.strategy.scheduling_validation import affinity_errors, spread_errors, toleration_errors
from twinstack.server.strategy.volume_validation import volume_errors

JSON = dict[str, Any]

_RESTARTS = ("Always", "OnFailure", "Never")
_DNS_POLICIES = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
_PREEMPTIONS = ("PreemptLowerPriority", "Never")
_SYSTEMS = ("linux", "windows")
_MAX_NAMESERVERS, _MAX_SEARCHES, _MAX_SEARCH_CHARACTERS = 3, 32, 2048
_MAX_SECONDS = 2**31 - 1
_SYSCTL = r"^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$"
_sysctl = re.compile(_SYSCTL).fullmatch


def pod_errors(spec: JSON, field: str) -> list[FieldError]:
    """Of a Pod: what a template must be, and images without blanks around them."""
    errors = pod_spec_errors(spec, field)
    for kind in ("containers", "initContainers"):
        for i, container in enumerate(spec.get(kind) or []):
            errors += blank_image_errors(container, f"{field}.{kind}[{i}]")
    return errors


def blank_image_errors(container: JSON, field: str) -> list[FieldError]:
    image = container.get("image", "")
    if image == image.strip():
        return []
    return [invalid(f"{field}.image", image, "must not have leading or trailing whitespace")]


def pod_spec_errors(spec: JSON, field: str) -> list[FieldError]:
    volumes, errors = volume_errors(spec.get("volumes") or [], f"{field}.volumes")
    errors += container_errors(spec, volumes, field)
    errors += _host_network_errors(spec, field)
    restart, dns = spec.get("restartPolicy", ""), spec.get("dnsPolicy", "")
    if restart not in _RESTARTS:
        errors.append(not_supported(f"{field}.restartPolicy", restart, _RESTARTS))
    if dns not in _DNS_POLICIES:
        errors.append(not_supported(f"{field}.dnsPolicy", dns, _DNS_POLICIES))
    errors += validation.labels(f"{field}.nodeSelector", spec.get("nodeSelector") or {})
    errors += _security_errors(spec, field)
    errors += affinity_errors(spec.get("affinity") or {}, f"{field}.affinity")
    errors += _dns_errors(spec.get("dnsConfig"), dns, f"{field}.dnsConfig")
    errors += _gate_errors(spec, field)
    errors += spread_errors(spec.get("topologySpreadConstraints") or [], f"{field}.topologySpreadConstraints")
    errors += _name_errors(spec, field)
    errors += toleration_errors(spec.get("tolerations") or [], f"{field}.tolerations")
    errors += _host_alias_errors(spec.get("hostAliases") or [], f"{field}.hostAliases")
    errors += _class_errors(spec, field)
    return errors


def _host_network_errors(spec: JSON, field: str) -> list[FieldError]:
    """On the host's network a container's port is the host's."""
    if not spec.get("hostNetwork"):
        return []
    return [
        invalid(
            f"{field}.{kind}[{i}].ports[{j}].containerPort",
            port.get("containerPort", 0),
            "must match `hostPort` when `hostNetwork` is true",
        )
        for kind, i, container in containers(spec)
        for j, port in enumerate(container.get("ports") or [])
        if port.get("hostPort") and port["hostPort"] != port.get("containerPort")
    ]


def _security_errors(spec: JSON, field: str) -> list[FieldError]:
    context: JSON = spec.get("securityContext") or {}
    at = f"{field}.securityContext"
    errors = id_errors(context, ("fsGroup", "runAsUser", "runAsGroup"), at)
    if spec.get("shareProcessNamespace") and spec.get("hostPID"):
        detail = "ShareProcessNamespace and HostPID cannot both be enabled"
        errors.append(invalid(f"{field}.shareProcessNamespace", True, detail))
    seen: set[str] = set()
    for i, sysctl in enumerate(context.get("sysctls") or []):
        name = sysctl.get("name", "")
        if not name:
            errors.append(required(f"{at}.sysctls[{i}].name"))
        elif len(name) > validation.MAX_SUBDOMAIN or not _sysctl(name):
            detail = f"must have at most 253 characters and match regex {_SYSCTL}"
            errors.append(invalid(f"{at}.sysctls[{i}].name", name, detail))
        elif name in seen:
            errors.append(duplicate(f"{at}.sysctls[{i}].name", name))
        seen.add(name)
    return errors


def _dns_errors(config: JSON | None, policy: str, field: str) -> list[FieldError]:
    if policy == "None":
        if config is None:
            return [required(field, "must provide `dnsConfig` when `dnsPolicy` is None")]
        if not config.get("nameservers"):
            detail = "must provide at least one DNS nameserver when `dnsPolicy` is None"
            return [required(f"{field}.nameservers", detail)]
    if config is None:
        return []
    servers, searches = config.get("nameservers") or [], config.get("searches") or []
    errors: list[FieldError] = []
    if len(servers) > _MAX_NAMESERVERS:
        detail = f"must not have more than {_MAX_NAMESERVERS} nameservers"
        errors.append(invalid(f"{field}.nameservers", servers, detail))
    for i, server in enumerate(servers):
        errors += validation.legacy_ip(f"{field}.nameservers[{i}]", server)
    if len(searches) > _MAX_SEARCHES:
        errors.append(invalid(f"{field}.searches", searches, f"must not have more than {_MAX_SEARCHES} search paths"))
    if len(" ".join(searches)) > _MAX_SEARCH_CHARACTERS:
        detail = f"must not have more than {_MAX_SEARCH_CHARACTERS} characters (including spaces) in the search list"
        errors.append(invalid(f"{field}.searches", searches, detail))
    for i, search in enumerate(searches):
        name = search.removesuffix(".").replace("_", "-")
        if search != "." and dns_subdomain(name):
            errors += each(f"{field}.searches[{i}]", search, dns_subdomain(search.removesuffix(".")))
    for i, option in enumerate(config.get("options") or []):
        if not option.get("name"):
            errors.append(required(f"{field}.options[{i}]", "must not be empty"))
    return errors


def _gate_errors(spec: JSON, field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for i, gate in enumerate(spec.get("readinessGates") or []):
        kind = gate.get("conditionType", "")
        errors += each(f"{field}.readinessGates[{i}].conditionType", kind, qualified_name(kind))
    seen: set[str] = set()
    for i, gate in enumerate(spec.get("schedulingGates") or []):
        name = gate.get("name", "")
        at = f"{field}.schedulingGates[{i}]"
        errors += each(at, name, qualified_name(name))
        if name in seen:
            errors.append(duplicate(at, name))
        seen.add(name)
    return errors


def _name_errors(spec: JSON, field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for name in ("serviceAccountName", "nodeName"):
        if spec.get(name):
            errors += each(f"{field}.{name}", spec[name], dns_subdomain(spec[name]))
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and not 1 <= deadline <= _MAX_SECONDS:
        detail = f"must be between 1 and {_MAX_SECONDS}, inclusive"
        errors.append(invalid(f"{field}.activeDeadlineSeconds", deadline, detail))
    for name in ("hostname", "subdomain"):
        if spec.get(name):
            errors += each(f"{field}.{name}", spec[name], dns_label(spec[name]))
    return errors


def _host_alias_errors(aliases: Sequence[JSON], field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for i, alias in enumerate(aliases):
        errors += validation.legacy_ip(f"{field}[{i}].ip", alias.get("ip", ""))
        for j, name in enumerate(alias.get("hostnames") or []):
            errors += each(f"{field}[{i}].hostnames[{j}]", name, dns_subdomain(name))
    return errors


def _class_errors(spec: JSON, field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for name in ("priorityClassName", "runtimeClassName"):
        if spec.get(name):
            errors += each(f"{field}.{name}", spec[name], dns_subdomain(spec[name]))
    preemption, system = spec.get("preemptionPolicy"), spec.get("os")
    if preemption is not None and preemption not in _PREEMPTIONS:
        errors.append(not_supported(f"{field}.preemptionPolicy", preemption, _PREEMPTIONS))
    if system is not None:
        name = system.get("name", "")
        if not name:
            errors.append(required(f"{field}.os.name", "cannot be empty"))
        elif name not in _SYSTEMS:
            errors.append(not_supported(f"{field}.os", name, _SYSTEMS))
    return errors
