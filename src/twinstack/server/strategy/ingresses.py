"""Ingresses and IngressClasses (networking.k8s.io/v1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twinstack.api import validation
from twinstack.api.errors import FieldError, forbidden_field, invalid, not_supported, required, too_long
from twinstack.api.metadata import immutable
from twinstack.api.resources import resource
from twinstack.api.validation import (
    dns_label,
    dns_subdomain,
    domain_path,
    each,
    is_ip,
    path_segment,
    port_name,
    port_number,
)
from twinstack.server.strategy.base import Strategy, WriteContext
from twinstack.server.strategy.defaultclasses import default_class

JSON = dict[str, Any]

CLASSES = resource("networking.k8s.io", "ingressclasses")
CLASS_ANNOTATION = "kubernetes.io/ingress.class"
_DEFAULT_ANNOTATION = "ingressclass.kubernetes.io/is-default-class"
_PATH_TYPES = ("Exact", "ImplementationSpecific", "Prefix")
_BAD_SEQUENCES = ("//", "/./", "/../", "%2f", "%2F")
_BAD_SUFFIXES = ("/..", "/.")
_SCOPES = ("Cluster", "Namespace")
_MAX_CONTROLLER = 250


class IngressStrategy(Strategy):
    def prepare_create(self, ctx: WriteContext, obj: JSON) -> None:
        """Admission plugin DefaultIngressClass."""
        spec: JSON = obj.setdefault("spec", {})
        if "ingressClassName" not in spec and CLASS_ANNOTATION not in _annotations(obj):
            name = default_class(ctx.reader.list(CLASSES), _DEFAULT_ANNOTATION)
            if name:
                spec["ingressClassName"] = name

    def validate(self, ctx: WriteContext, obj: JSON, old: JSON | None) -> Sequence[FieldError]:
        spec = obj.get("spec") or {}
        rules: Sequence[JSON] = spec.get("rules") or []
        errors: list[FieldError] = []
        if not rules and "defaultBackend" not in spec:
            errors.append(invalid("spec", None, "either `defaultBackend` or `rules` must be specified"))
        if "defaultBackend" in spec:
            errors += _backend_errors(spec["defaultBackend"], "spec.defaultBackend")
        for i, rule in enumerate(rules):
            errors += _rule_errors(rule, f"spec.rules[{i}]")
        for i, entry in enumerate(spec.get("tls") or []):
            errors += _tls_errors(entry, f"spec.tls[{i}]")
        name = spec.get("ingressClassName")
        if name is not None:
            errors += each("spec.ingressClassName", name, dns_subdomain(name))
            annotation = _annotations(obj).get(CLASS_ANNOTATION, name)
            if old is None and annotation != name:
                detail = "must match `ingressClassName` when both are specified"
                errors.append(invalid(f"annotations.{CLASS_ANNOTATION}", annotation, detail))
        return errors

    def validate_status(self, ctx: WriteContext, obj: JSON, old: JSON) -> Sequence[FieldError]:
        known = {entry.get("ip", "") for entry in _points(old)}
        errors: list[FieldError] = []
        for i, entry in enumerate(_points(obj)):
            at = f"status.loadBalancer.ingress[{i}]"
            host = entry.get("hostname")
            if entry.get("ip"):
                errors += validation.legacy_ip(f"{at}.ip", entry["ip"], known)
            if host:
                errors += each(f"{at}.hostname", host, dns_subdomain(host))
                if is_ip(host):
                    errors.append(invalid(f"{at}.hostname", host, "must be a DNS name, not an IP address"))
        return errors

    def warnings(self, ctx: WriteContext, obj: JSON, old: JSON | None) -> list[str]:
        if old is not None or CLASS_ANNOTATION not in _annotations(obj):
            return []
        return [f"annotation \"{CLASS_ANNOTATION}\" is deprecated, please use 'spec.ingressClassName' instead"]


def _annotations(obj: JSON) -> JSON:
    return obj["metadata"].get("annotations") or {}


def _points(ingress: JSON) -> Sequence[JSON]:
    """What the load balancer reports."""
    return ((ingress.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []


def _rule_errors(rule: JSON, field: str) -> list[FieldError]:
    host, http = rule.get("host", ""), rule.get("http")
    errors: list[FieldError] = []
    if host:
        if is_ip(host):
            errors.append(invalid(f"{field}.host", host, "must be a DNS name, not an IP address"))
        errors += _host_errors(host, f"{field}.host")
    if http is None:
        return errors
    paths: Sequence[JSON] = http.get("paths") or []
    if not paths:
        errors.append(required(f"{field}.http.paths"))
    for i, path in enumerate(paths):
        errors += _path_errors(path, f"{field}.http.paths[{i}]")
    return errors


def _host_errors(host: str, field: str) -> list[FieldError]:
    rule = validation.wildcard_subdomain if "*" in host else dns_subdomain
    return each(field, host, rule(host))


def _path_errors(path: JSON, field: str) -> list[FieldError]:
    kind, text = path.get("pathType"), path.get("path", "")
    if kind is None:
        return [required(f"{field}.pathType", "pathType must be specified")]
    errors: list[FieldError] = []
    if kind not in _PATH_TYPES:
        errors.append(not_supported(f"{field}.pathType", kind, _PATH_TYPES))
    elif not text.startswith("/") and (text or kind != "ImplementationSpecific"):
        errors.append(invalid(f"{field}.path", text, "must be an absolute path"))
    if kind in ("Exact", "Prefix"):
        errors += [
            invalid(f"{field}.path", text, f"must not contain '{part}'") for part in _BAD_SEQUENCES if part in text
        ]
        errors += [
            invalid(f"{field}.path", text, f"cannot end with '{part}'") for part in _BAD_SUFFIXES if text.endswith(part)
        ]
    return errors + _backend_errors(path.get("backend") or {}, f"{field}.backend")


def _backend_errors(backend: JSON, field: str) -> list[FieldError]:
    service, target = backend.get("service"), backend.get("resource")
    if service is not None and target is not None:
        return [invalid(field, "", "cannot set both resource and service backends")]
    if target is not None:
        return _reference_errors(target, f"{field}.resource")
    if service is None:
        return [invalid(field, "", "resource or service backend is required")]
    name, port = service.get("name", ""), service.get("port") or {}
    errors: list[FieldError] = []
    if not name:
        errors.append(required(f"{field}.service.name"))
    else:
        errors += each(f"{field}.service.name", name, dns_label(name))
    if port.get("name") and port.get("number"):
        errors.append(invalid(field, "", "cannot set both port name & port number"))
    elif port.get("name"):
        errors += each(f"{field}.service.port.name", port["name"], port_name(port["name"]))
    elif port.get("number"):
        number = port["number"]
        errors += [invalid(f"{field}.service.port.number", number, problem) for problem in port_number(number)]
    else:
        errors.append(required(field, "port name or number is required"))
    return errors


def _reference_errors(reference: JSON, field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    group = reference.get("apiGroup")
    if group is not None:
        errors += each(f"{field}.apiGroup", group, dns_subdomain(group))
    for name in ("kind", "name"):
        value = reference.get(name, "")
        if value:
            errors += each(f"{field}.{name}", value, path_segment(value))
        else:
            errors.append(required(f"{field}.{name}"))
    return errors


def _tls_errors(entry: JSON, field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for i, host in enumerate(entry.get("hosts") or []):
        errors += _host_errors(host, f"{field}.hosts[{i}]")
    secret = entry.get("secretName")
    if secret:
        errors += each(f"{field}.secretName", secret, dns_subdomain(secret))
    return errors


class IngressClassStrategy(Strategy):
    def default(self, obj: JSON) -> None:
        parameters = (obj.get("spec") or {}).get("parameters")
        if parameters is not None:
            parameters.setdefault("scope", "Cluster")

    def validate(self, ctx: WriteContext, obj: JSON, old: JSON | None) -> Sequence[FieldError]:
        spec = obj.get("spec") or {}
        controller, parameters = spec.get("controller", ""), spec.get("parameters")
        errors: list[FieldError] = []
        if old is not None:
            errors += immutable("spec.controller", controller, (old.get("spec") or {}).get("controller", ""))
        if len(controller) > _MAX_CONTROLLER:
            errors.append(too_long("spec.controller", _MAX_CONTROLLER))
        errors += domain_path("spec.controller", controller)
        if parameters is not None:
            errors += _parameters_errors(parameters, "spec.parameters")
        return errors


def _parameters_errors(parameters: JSON, field: str) -> list[FieldError]:
    errors = _reference_errors(parameters, field)
    scope, namespace = parameters.get("scope"), parameters.get("namespace")
    if scope is None:
        return [*errors, required(f"{field}.scope")]
    if scope not in _SCOPES:
        errors.append(not_supported(f"{field}.scope", scope, _SCOPES))
    if scope == "Namespace":
        if namespace is None:
            errors.append(required(f"{field}.namespace", "`parameters.scope` is set to 'Namespace'"))
        else:
            errors += each(f"{field}.namespace", namespace, dns_label(namespace))
    if scope == "Cluster" and namespace is not None:
        errors.append(forbidden_field(f"{field}.namespace", "`parameters.scope` is set to 'Cluster'"))
    return errors
