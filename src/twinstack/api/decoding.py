"""Request bodies read into objects: JSON, YAML and protobuf, with the API server's refusals.

A body is what its `apiVersion` and `kind` say; when they are missing, the resource of the URL says it.
"""

from __future__ import annotations

import re
from typing import Any

from twinstack.api import jsontext
from twinstack.api.errors import StatusError, bad_request, go_value, unsupported_media_type
from twinstack.api.objects import check_object
from twinstack.api.resources import Resource
from twinstack.api.schema import TypeMismatch, check, get_type, kind_of, type_of_kind

JSON = dict[str, Any]

MEDIA_TYPES = ("application/json", "application/yaml", "application/vnd.kubernetes.protobuf")
_TEXT_TYPES = MEDIA_TYPES[:2]  # of objects whose kinds are defined by others
_DELETE_OPTIONS = "meta.v1.DeleteOptions"
_SCHEME = "pkg/api/legacyscheme/scheme.go:30"
_OPTIONS_SCHEME = "k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme/register.go:27"
_TYPE_META = 'struct { APIVersion string "json:\\"apiVersion,omitempty\\""; Kind string "json:\\"kind,omitempty\\"" }'
_NO_KIND = "couldn't get version/kind; json parse error: "

# Versions that upstream knows, converts and then refuses because the URL names another one.
_OLD_VERSIONS = {
    "Deployment": ("apps/v1beta1", "apps/v1beta2", "extensions/v1beta1"),
    "ReplicaSet": ("apps/v1beta2", "extensions/v1beta1"),
    "DaemonSet": ("apps/v1beta2", "extensions/v1beta1"),
    "StatefulSet": ("apps/v1beta1", "apps/v1beta2"),
    "ControllerRevision": ("apps/v1beta1", "apps/v1beta2"),
    "Ingress": ("networking.k8s.io/v1beta1", "extensions/v1beta1"),
    "IngressClass": ("networking.k8s.io/v1beta1",),
    "NetworkPolicy": ("extensions/v1beta1",),
    "PodDisruptionBudget": ("policy/v1beta1",),
    "CronJob": ("batch/v1beta1",),
    "HorizontalPodAutoscaler": ("autoscaling/v1", "autoscaling/v2", "autoscaling/v2beta1", "autoscaling/v2beta2"),
    "Event": ("v1", "events.k8s.io/v1", "events.k8s.io/v1beta1"),
    "EndpointSlice": ("discovery.k8s.io/v1beta1",),
    "IPAddress": ("networking.k8s.io/v1beta1",),
    "ServiceCIDR": ("networking.k8s.io/v1beta1",),
    "Lease": ("coordination.k8s.io/v1beta1",),
    "Scale": ("apps/v1beta1", "apps/v1beta2", "extensions/v1beta1"),
}
_INTERNAL_PACKAGE = {"": "core", "events.k8s.io": "core"}


class _Unrecognized(Exception):
    """A body whose type cannot be told."""


def decode_object(
    body: bytes, content_type: str, resource: Resource | None, validation: str = "Warn"
) -> tuple[JSON, list[str]]:
    """Read a body as an object of `resource`, in stored form, with warnings.

    `validation` is the request's fieldValidation: Strict, Warn (also for "") or Ignore. Without a resource the body
    is meta/v1 DeleteOptions. Raises StatusError 400, and 415 for other media types.
    """
    media_type = content_type.partition(";")[0].strip().lower() or MEDIA_TYPES[0]
    known = MEDIA_TYPES if resource is None or resource.custom is None else _TEXT_TYPES
    if media_type not in known:
        accepted = ", ".join(known)
        raise unsupported_media_type(
            f"the body of the request was in an unknown format - accepted media types include: {accepted}"
        )
    try:
        value, repeated = _read(body, media_type)
        _type_meta(value)
    except _Unrecognized as error:
        raise _unrecognized(error, resource, body) from error
    if resource is None:
        return _delete_options(value)
    if resource.custom is None:
        _resolve(value, resource)
    else:
        _check_custom_type(value, resource, body)
    obj, findings = _checked(value, resource)
    if media_type == MEDIA_TYPES[0] and jsontext.has_repeated_keys(body, value):
        pairs = jsontext.decode_pairs(body)
        if resource.custom is None:
            findings = _findings(pairs, resource.schema, "")
        else:
            findings = [*_repeated(pairs, ""), *findings]
    if validation == "Strict":
        if repeated:
            lines = "\n".join(f"  {line}" for line in repeated)
            findings.insert(0, f"yaml: unmarshal errors:\n{lines}")
        if findings:
            raise _cannot_be_handled(value, resource, f"strict decoding error: {', '.join(findings)}")
    return obj, [] if validation == "Ignore" else [*repeated, *findings]


def _read(body: bytes, media_type: str) -> tuple[JSON, list[str]]:
    """The decoded body, and keys that YAML sets twice."""
    repeated: list[str] = []
    try:
        if media_type == MEDIA_TYPES[0]:
            value = jsontext.decode(body)
        elif media_type == MEDIA_TYPES[1]:
            from twinstack.api import yamltext

            value, repeated = yamltext.decode(body)
        else:
            from twinstack.api import protobuf

            value = protobuf.decode(body)
    except jsontext.JSONSyntaxError as error:
        raise _Unrecognized(f"{_NO_KIND}{error}") from error
    except ValueError as error:  # YAMLSyntaxError, protobuf.DecodeError
        raise _Unrecognized(str(error)) from error
    if value is None:
        return {}, repeated
    if not isinstance(value, dict):
        raise _Unrecognized(f"{_NO_KIND}json: cannot unmarshal {kind_of(value)} into Go value of type {_TYPE_META}")
    return value, repeated


def _type_meta(value: JSON) -> None:
    """Check that apiVersion and kind are texts."""
    for name in ("apiVersion", "kind"):
        text = value.get(name)
        if text is not None and not isinstance(text, str):
            problem = f"json: cannot unmarshal {kind_of(text)} into Go struct field .{name} of type string"
            raise _Unrecognized(f"{_NO_KIND}{problem}")
    version = value.get("apiVersion") or ""
    if version.count("/") > 1:
        raise _Unrecognized(f"unexpected GroupVersion string: {version}")


def _resolve(value: JSON, resource: Resource) -> None:
    """Fill in apiVersion and kind. Raises StatusError when they name another type than the resource's."""
    version = value.get("apiVersion") or resource.group_version
    if resource.kind == "Eviction" and version == "policy/v1beta1":
        version = resource.group_version  # the same fields, and older clients say so
    kind = value.get("kind") or resource.kind
    value["apiVersion"], value["kind"] = version, kind
    if (version, kind) == (resource.group_version, resource.kind):
        return
    if kind == resource.kind and version in _OLD_VERSIONS.get(kind, ()):
        raise bad_request(
            f"the API version in the data ({version}) does not match the expected API version"
            f" ({resource.group_version})"
        )
    if type_of_kind(version, kind):
        package = _INTERNAL_PACKAGE.get(resource.group) or resource.group.partition(".")[0]
        have = f"{version.rpartition('/')[2]}.{kind}"
        problem = f"converting ({have}) to ({package}.{resource.kind}): unknown conversion"
    else:
        problem = (
            f"no kind {go_value(kind)} is registered for version {go_value(version)} in scheme {go_value(_SCHEME)}"
        )
    raise _cannot_be_handled(value, resource, problem)


def _check_custom_type(value: JSON, resource: Resource, body: bytes) -> None:
    """Nothing is filled in; another version of the kind is refused here, another kind by validation."""
    for name, word in (("kind", "Kind"), ("apiVersion", "apiVersion")):
        if not value.get(name):
            shown = body.decode("utf-8", "replace")
            raise _unrecognized(_Unrecognized(f"Object '{word}' is missing in '{shown}'"), resource, body)
    if value["apiVersion"] != resource.group_version:
        raise bad_request(
            f"the API version in the data ({value['apiVersion']}) does not match the expected API version"
            f" ({resource.group_version})"
        )


def _checked(value: JSON, resource: Resource) -> tuple[JSON, list[str]]:
    try:
        return check_object(value, resource)
    except TypeMismatch as error:
        raise _cannot_be_handled(value, resource, str(error)) from error


def _delete_options(value: JSON) -> tuple[JSON, list[str]]:
    version, kind = value.get("apiVersion") or "v1", value.get("kind") or "DeleteOptions"
    if kind != "DeleteOptions":
        raise bad_request(
            f"no kind {go_value(kind)} is registered for version {go_value(version)}"
            f" in scheme {go_value(_OPTIONS_SCHEME)}"
        )
    try:
        return check(value, _DELETE_OPTIONS)[0], []
    except TypeMismatch as error:
        raise bad_request(str(error)) from error


def _unrecognized(error: _Unrecognized, resource: Resource | None, body: bytes) -> StatusError:
    if resource is None:
        return bad_request(str(error))
    shown = "<empty>"
    if body:
        start = body[:30]
        shown = start.decode("utf-8", "replace") if body[:1] == b"{" else start.hex()
        if len(body) > len(start):
            shown += " ..."
    return bad_request(f"the object provided is unrecognized (must be of type {resource.kind}): {error} ({shown})")


def _cannot_be_handled(value: JSON, resource: Resource, problem: str) -> StatusError:
    version = str(value["apiVersion"]).rpartition("/")[2]
    return bad_request(
        f"{value['kind']} in version {go_value(version)} cannot be handled as a {resource.kind}: {problem}"
    )


# Findings with repeated keys: the slow way, over a text that is known to have some. -----------------------------


def _findings(value: Any, type_name: str, path: str) -> list[str]:
    """Unknown and repeated fields of an object read as Pairs, in the order of the text."""
    if not isinstance(value, jsontext.Pairs):
        return []
    fields = get_type(type_name).fields
    seen: set[str] = set()
    findings: list[str] = []
    for name, item in value.pairs:
        where = f"{path}.{name}" if path else name
        field = fields.get(name)
        if field is None:
            findings.append(f'unknown field "{where}"')
            continue
        if name in seen:
            findings.append(f'duplicate field "{where}"')
        seen.add(name)
        inner = field.type if field.is_object else ""
        findings += _inner_findings(item, inner, re.findall(r"\[\]|\{\}", field.container), where)
    return findings


def _repeated(value: Any, path: str) -> list[str]:
    """Keys that stand twice anywhere in a value read as Pairs."""
    if isinstance(value, list):
        return [found for i, item in enumerate(value) for found in _repeated(item, f"{path}[{i}]")]
    if not isinstance(value, jsontext.Pairs):
        return []
    seen: set[str] = set()
    findings: list[str] = []
    for name, item in value.pairs:
        where = f"{path}.{name}" if path else name
        if name in seen:
            findings.append(f'duplicate field "{where}"')
        seen.add(name)
        findings += _repeated(item, where)
    return findings


def _inner_findings(value: Any, type_name: str, containers: list[str], path: str) -> list[str]:
    if not containers:
        return _findings(value, type_name, path) if type_name else []
    findings: list[str] = []
    if containers[0] == "[]" and isinstance(value, list):
        for i, item in enumerate(value):
            findings += _inner_findings(item, type_name, containers[1:], f"{path}[{i}]")
    elif containers[0] == "{}" and isinstance(value, jsontext.Pairs):
        seen: set[str] = set()
        for name, item in value.pairs:
            if name in seen:
                findings.append(f'duplicate field "{path}.{name}"')
            seen.add(name)
            findings += _inner_findings(item, type_name, containers[1:], f"{path}.{name}")
    return findings
