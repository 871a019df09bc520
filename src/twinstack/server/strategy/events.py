"""Events, in both their forms: core/v1, and events.k8s.io/v1 (KEP-383), which asks for more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twinstack.api.errors import FieldError, invalid, required
from twinstack.api.metadata import IMMUTABLE
from twinstack.api.validation import NameRule, dns_subdomain, each, path_segment, qualified_name
from twinstack.server.strategy.base import Strategy, WriteContext

JSON = dict[str, Any]

_NEW_GROUP = "events.k8s.io"
_REASON, _NOTE, _ACTION, _CONTROLLER = 128, 1024, 128, 128
_FIXED = ("action", "regarding", "reportingController", "reportingInstance", "reason", "type", "eventTime")


class EventStrategy(Strategy):
    """Only the new form, and only with an eventTime, is checked closely."""

    name_rule: NameRule = staticmethod(path_segment)
    metadata_twice = False

    def validate(self, ctx: WriteContext, obj: JSON, old: JSON | None) -> Sequence[FieldError]:
        new_form = ctx.resource.group == _NEW_GROUP
        errors = _namespace_errors(obj, "regarding" if new_form else "involvedObject")
        if not new_form or not obj.get("eventTime"):
            if new_form:
                errors.append(required("eventTime"))
            return errors
        errors += _new_form_errors(obj)
        if old is not None and old.get("eventTime"):
            errors += [
                invalid(field, obj.get(field), IMMUTABLE) for field in _FIXED if obj.get(field) != old.get(field)
            ]
        return errors


def _namespace_errors(obj: JSON, reference: str) -> list[FieldError]:
    """An event lies beside the object it is about; those about cluster-scoped objects lie in `default`."""
    namespace = obj["metadata"].get("namespace", "")
    about = (obj.get(reference) or {}).get("namespace", "")
    if about != namespace and not (not about and namespace == "default"):
        return [invalid("involvedObject.namespace", about, "does not match event.namespace")]
    return each("namespace", namespace, dns_subdomain(namespace))


def _new_form_errors(obj: JSON) -> list[FieldError]:
    errors: list[FieldError] = []
    controller, instance = obj.get("reportingController", ""), obj.get("reportingInstance", "")
    if not controller:
        errors.append(required("reportingController"))
    errors += each("reportingController", controller, qualified_name(controller))
    if not instance:
        errors.append(required("reportingInstance"))
    for field, limit in (("reportingInstance", _CONTROLLER), ("action", _ACTION), ("reason", _REASON)):
        value = obj.get(field, "")
        if not value and field != "reportingInstance":
            errors.append(required(field))
        if len(value) > limit:
            errors.append(invalid(field, "", f"can have at most {limit} characters"))
    if len(obj.get("note", "")) > _NOTE:
        errors.append(invalid("message", "", f"can have at most {_NOTE} characters"))
    if obj.get("type") not in ("Normal", "Warning"):
        errors.append(invalid("type", "", "has invalid value: " + str(obj.get("type", ""))))
    return errors
