"""CertificateSigningRequests (certificates.k8s.io/v1)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any

from twinstack.api.errors import FieldError, duplicate, forbidden_field, invalid, not_supported, required
from twinstack.api.validation import domain_path
from twinstack.server.strategy.base import Change, Strategy, WriteContext

JSON = dict[str, Any]

_DECISIONS = ("Approved", "Denied")
_FINAL = (*_DECISIONS, "Failed")
_STATUSES = ("False", "True", "Unknown")
_USAGES = (
    "any", "cert sign", "client auth", "code signing", "content commitment", "crl sign", "data encipherment",
    "decipher only", "digital signature", "email protection", "encipher only", "ipsec end system", "ipsec tunnel",
    "ipsec user", "key agreement", "key encipherment", "microsoft sgc", "netscape sgc", "ocsp signing", "s/mime",
    "server auth", "signing", "timestamping",
)  # fmt: skip
_MIN_SECONDS = 600
_LEGACY_SIGNER = "kubernetes.io/legacy-unknown"


class CertificateSigningRequestStrategy(Strategy):
    """Who asks is written down by the server; the request never changes, and only `approval` decides on it."""

    def prepare_create(self, ctx: WriteContext, obj: JSON) -> None:
        spec: JSON = obj.setdefault("spec", {})
        for name in ("username", "uid", "groups", "extra"):
            spec.pop(name, None)
        spec |= ctx.user.as_json()

    def prepare_update(self, ctx: WriteContext, new: JSON, old: JSON) -> None:
        new["spec"] = old["spec"]

    def validate(self, ctx: WriteContext, obj: JSON, old: JSON | None) -> Sequence[FieldError]:
        spec = obj["spec"]
        usages: Sequence[str] = spec.get("usages") or []
        seconds = spec.get("expirationSeconds")
        problem = _request_problem(spec.get("request") or "")
        errors = [invalid("spec.request", spec.get("request") or "", problem)] if problem else []
        if not usages:
            errors.append(required("spec.usages", "usages is required"))
        seen: set[str] = set()
        for i, usage in enumerate(usages):
            if usage not in _USAGES:
                errors.append(not_supported(f"spec.usages[{i}]", usage, _USAGES))
            if usage in seen:
                errors.append(duplicate(f"spec.usages[{i}]", usage))
            seen.add(usage)
        errors += domain_path("spec.signerName", spec.get("signerName", ""))
        if spec.get("signerName") == _LEGACY_SIGNER and old is None:
            detail = "the legacy signerName is not allowed via this API version"
            errors.append(invalid("spec.signerName", _LEGACY_SIGNER, detail))
        if seconds is not None and seconds < _MIN_SECONDS:
            detail = f"may not specify a duration less than {_MIN_SECONDS} seconds (10 minutes)"
            errors.append(invalid("spec.expirationSeconds", seconds, detail))
        return errors

    def validate_status(self, ctx: WriteContext, obj: JSON, old: JSON) -> Sequence[FieldError]:
        errors = _conditions_errors(_conditions(obj))
        before, after = ((each.get("status") or {}).get("certificate") for each in (old, obj))
        if before and after != before:
            detail = "updates may not modify existing certificate content"
            errors.append(forbidden_field("status.certificate", detail))
        return errors

    def update_status(self, ctx: WriteContext, new: JSON, old: JSON) -> Change:
        """Everything but the decision."""
        status: JSON = new.setdefault("status", {})
        _date(status.get("conditions") or [], _conditions(old), ctx.now)
        before, after = (_decisions(_conditions(each)) for each in (old, new))
        if before != after:
            detail = "conditions may not be added or removed via the status endpoint"
            kinds = ", ".join(sorted(before ^ after))
            self._check(ctx, new, [forbidden_field("status.conditions", f"{kinds} {detail}")])
        return super().update_status(ctx, new, old)

    def update_subresource(self, ctx: WriteContext, subresource: str, new: JSON, old: JSON) -> Change:
        if subresource != "approval":
            return super().update_subresource(ctx, subresource, new, old)
        conditions = _conditions(new)
        _date(conditions, _conditions(old), ctx.now)
        self._check(ctx, new, _removal_errors(conditions, _conditions(old)))
        status = dict(old.get("status") or {})
        if conditions:
            status["conditions"] = conditions
        return super().update_status(ctx, new | {"status": status}, old)


def _conditions(obj: JSON) -> list[JSON]:
    return (obj.get("status") or {}).get("conditions") or []


def _decisions(conditions: Sequence[JSON]) -> set[str]:
    return {condition.get("type", "") for condition in conditions} & set(_DECISIONS)


def _removal_errors(new: Sequence[JSON], old: Sequence[JSON]) -> list[FieldError]:
    """What has been decided stays so."""
    kinds = [[condition.get("type") for condition in conditions] for conditions in (new, old)]
    return [
        forbidden_field("status.conditions", f'updates may not remove a condition of type "{kind}"')
        for kind in _FINAL
        if kinds[0].count(kind) < kinds[1].count(kind)
    ]


def _date(new: Sequence[JSON], old: Sequence[JSON], now: str) -> None:
    """When a condition was last written, and when its status last changed."""
    statuses = {condition.get("type"): condition.get("status") for condition in old}
    for condition in new:
        if not condition.get("lastUpdateTime"):
            condition["lastUpdateTime"] = now
        changed = statuses.get(condition.get("type")) != condition.get("status")
        if changed or not condition.get("lastTransitionTime"):
            condition["lastTransitionTime"] = now


def _conditions_errors(conditions: Sequence[JSON]) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for i, condition in enumerate(conditions):
        at, kind, status = f"status.conditions[{i}]", condition.get("type", ""), condition.get("status", "")
        if not kind:
            errors.append(required(f"{at}.type"))
        if kind in seen:
            errors.append(duplicate(f"{at}.type", kind))
        seen.add(kind)
        if not status:
            errors.append(required(f"{at}.status"))
        elif kind in _FINAL and status != "True":
            errors.append(not_supported(f"{at}.status", status, ("True",)))
        elif status not in _STATUSES:
            errors.append(not_supported(f"{at}.status", status, _STATUSES))
        if kind in _DECISIONS and set(_DECISIONS) <= seen:
            errors.append(invalid(f"{at}.type", kind, "Approved and Denied conditions are mutually exclusive"))
    return errors


def _request_problem(text: str) -> str:
    """Empty for a PKCS #10 request in PEM, base64 around it."""
    from cryptography import x509  # heavy, and requests are rare

    try:
        pem = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        return str(error)
    if b"-----BEGIN CERTIFICATE REQUEST-----" not in pem:
        return "PEM block type must be CERTIFICATE REQUEST"
    try:
        x509.load_pem_x509_csr(pem)
    except ValueError as error:
        return str(error)
    return ""
