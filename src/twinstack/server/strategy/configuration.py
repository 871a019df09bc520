"""ConfigMaps, Secrets and ServiceAccounts (core/v1)."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

from twinstack.api import jsontext
from twinstack.api.errors import FieldError, forbidden_field, invalid, required, too_long
from twinstack.api.metadata import immutable
from twinstack.api.validation import config_key, each
from twinstack.server.strategy.base import Strategy, WriteContext

JSON = dict[str, Any]

MAX_SIZE = 1024 * 1024  # bytes of all values together
_IMMUTABLE = "field is immutable when `immutable` is set"
_ACCOUNT_NAME = "kubernetes.io/service-account.name"
_MOUNTABLE = "kubernetes.io/enforce-mountable-secrets"


def _frozen(new: JSON, old: JSON, fields: Sequence[str]) -> list[FieldError]:
    """What may not change once `immutable` is set, the setting itself included."""
    if not old.get("immutable"):
        return []
    errors = [] if new.get("immutable") else [forbidden_field("immutable", _IMMUTABLE)]
    changed = [field for field in fields if (new.get(field) or {}) != (old.get(field) or {})]
    return errors + [forbidden_field(field, _IMMUTABLE) for field in changed]


class ConfigMapStrategy(Strategy):
    def validate(self, ctx: WriteContext, obj: JSON, old: JSON | None) -> Sequence[FieldError]:
        errors = _frozen(obj, old, ("data", "binaryData")) if old is not None else []
        data, binary = obj.get("data") or {}, obj.get("binaryData") or {}
        for key in data:
            errors += each(f"data[{key}]", key, config_key(key))
            if key in binary:
                errors.append(invalid(f"data[{key}]", key, "duplicate of key present in binaryData"))
        for key in binary:
            errors += each(f"binaryData[{key}]", key, config_key(key))
        size = sum(len(text.encode()) for text in data.values()) + sum(map(_decoded_size, binary.values()))
        if size > MAX_SIZE:
            errors.append(too_long("[]", MAX_SIZE))  # upstream names the whole object by an empty path
        return errors


def _decoded_size(text: str) -> int:
    return len(text) // 4 * 3 - text.count("=", -2)


class SecretStrategy(Strategy):
    def default(self, obj: JSON) -> None:
        """`stringData` is a convenience for writers: it goes into `data`."""
        texts = obj.pop("stringData", None)
        if texts:
            data: JSON = obj.setdefault("data", {})
            data |= {key: base64.b64encode(text.encode()).decode() for key, text in texts.items()}
        obj.setdefault("type", "Opaque")

    def validate(self, ctx: WriteContext, obj: JSON, old: JSON | None) -> Sequence[FieldError]:
        errors: list[FieldError] = []
        if old is not None:
            errors += immutable("type", obj["type"], old.get("type"))
            errors += _frozen(obj, old, ("data",))
        data = obj.get("data") or {}
        for key in data:
            errors += each(f"data[{key}]", key, config_key(key))
        if sum(map(_decoded_size, data.values())) > MAX_SIZE:
            errors.append(too_long("data", MAX_SIZE))
        return errors + _type_errors(obj["type"], data, obj["metadata"].get("annotations") or {})


def _type_errors(kind: str, data: JSON, annotations: JSON) -> list[FieldError]:
    """What the built-in types of Secrets require."""
    if kind == "kubernetes.io/service-account-token":
        return [] if annotations.get(_ACCOUNT_NAME) else [required(f"metadata.annotations[{_ACCOUNT_NAME}]")]
    if kind == "kubernetes.io/dockercfg":
        return _json_errors(".dockercfg", data)
    if kind == "kubernetes.io/dockerconfigjson":
        return _json_errors(".dockerconfigjson", data)
    if kind == "kubernetes.io/basic-auth" and not {"username", "password"} & set(data):
        return [required("data[username]"), required("data[password]")]
    if kind == "kubernetes.io/ssh-auth" and not data.get("ssh-privatekey"):
        return [required("data[ssh-privatekey]")]
    if kind == "kubernetes.io/tls":
        return [required(f"data[{key}]") for key in ("tls.crt", "tls.key") if key not in data]
    return []


def _json_errors(key: str, data: JSON) -> list[FieldError]:
    if key not in data:
        return [required(f"data[{key}]")]
    problem = ""
    try:
        value = jsontext.decode(base64.b64decode(data[key]))
    except jsontext.JSONSyntaxError as error:
        problem = str(error)
    else:
        if value is not None and not isinstance(value, dict):
            problem = (
                f"json: cannot unmarshal {jsontext.kind_of(value)} into Go value of type map[string]interface {{}}"
            )
    return [invalid(f"data[{key}]", "<secret contents redacted>", problem)] if problem else []


class ServiceAccountStrategy(Strategy):
    def prepare_create(self, ctx: WriteContext, obj: JSON) -> None:
        _only_names(obj)

    def prepare_update(self, ctx: WriteContext, new: JSON, old: JSON) -> None:
        _only_names(new)

    def warnings(self, ctx: WriteContext, obj: JSON, old: JSON | None) -> list[str]:
        before = (old or {}).get("metadata", {}).get("annotations") or {}
        if _MOUNTABLE not in (obj["metadata"].get("annotations") or {}) or _MOUNTABLE in before:
            return []
        advice = "deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets"
        return [f"metadata.annotations[{_MOUNTABLE}]: {advice}"]


def _only_names(obj: JSON) -> None:
    """Of the listed Secrets only the name counts."""
    if obj.get("secrets"):
        obj["secrets"] = [{"name": secret["name"]} if secret.get("name") else {} for secret in obj["secrets"]]
