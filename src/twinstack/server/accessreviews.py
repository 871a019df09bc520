"""Questions about access as requests (authorization.k8s.io/v1): nothing is stored, the answer is the status.

`subjectaccessreviews` and `localsubjectaccessreviews` ask about others, `selfsubjectaccessreviews` about who asks,
`selfsubjectrulesreviews` for everything that who asks may do in a namespace.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from twinstack.api import times
from twinstack.api.errors import (
    FieldError,
    bad_request,
    forbidden_field,
    invalid,
    invalid_object,
    required,
)
from twinstack.api.resources import resource
from twinstack.api.selectors import exact_fields
from twinstack.server import fieldmanagers, preconditions, reviews
from twinstack.server.authorization.decisions import Attributes, Authorizer, Verdict
from twinstack.server.messages import Answer, Request, Route, UserInfo
from twinstack.server.options import WriteOptions

JSON = dict[str, Any]

GROUP = "authorization.k8s.io"
LOCAL = resource(GROUP, "localsubjectaccessreviews")
OTHERS = resource(GROUP, "subjectaccessreviews")
OWN = resource(GROUP, "selfsubjectaccessreviews")
OWN_RULES = resource(GROUP, "selfsubjectrulesreviews")
ROWS = (LOCAL, OTHERS, OWN, OWN_RULES)


class AccessReviews:
    """`app.RouteHandler` of the four kinds. Raises StatusError."""

    def __init__(self, authorizer: Authorizer) -> None:
        self._authorizer = authorizer

    async def handle(self, request: Request, route: Route) -> Answer:
        def judge(question: JSON, options: WriteOptions) -> JSON:
            meta: JSON = question.setdefault("metadata", {})
            preconditions.check_body_namespace(meta, route)
            if route.namespace:
                meta["namespace"] = route.namespace
            if route.resource == OWN_RULES:
                return self._rules(request.user, question)
            review = self._access(request, route, question)
            fieldmanagers.track_creation(route.resource, question, None, options, times.now())
            return review

        return reviews.answered(request, route, judge)

    def _access(self, request: Request, route: Route, body: JSON) -> JSON:
        spec: JSON = body.get("spec") or {}
        errors = _errors(route, body["metadata"], spec)
        if errors:
            raise invalid_object("", "", errors, GROUP)
        user = request.user if route.resource == OWN else _subject(spec)
        decision = self._authorizer.authorize(_attributes(spec, user))
        status: JSON = {"allowed": decision.allowed}
        if decision.verdict is Verdict.DENY:
            status["denied"] = True
        if decision.reason:
            status["reason"] = decision.reason
        if decision.error:
            status["evaluationError"] = decision.error
        return {"metadata": body["metadata"], "spec": _shown(spec), "status": status}

    def _rules(self, user: UserInfo, body: JSON) -> JSON:
        namespace = (body.get("spec") or {}).get("namespace") or ""
        if not namespace:
            raise bad_request("no namespace on request")
        found = self._authorizer.rules_for(user, namespace)
        status: JSON = {
            "resourceRules": [
                _picked(rule, "verbs", "apiGroups", "resources", "resourceNames")
                for rule in found.rules
                if rule.get("resources")
            ],
            "nonResourceRules": [
                _picked(rule, "verbs", "nonResourceURLs") for rule in found.rules if rule.get("nonResourceURLs")
            ],
            "incomplete": found.incomplete,
        }
        if found.error:
            status["evaluationError"] = found.error
        return {"metadata": {}, "spec": {}, "status": status}


def _picked(rule: JSON, *names: str) -> JSON:
    return {name: rule[name] for name in names if name == "verbs" or rule.get(name)}


def _subject(spec: JSON) -> UserInfo:
    extra = tuple((key, tuple(values)) for key, values in (spec.get("extra") or {}).items())
    groups = tuple(spec.get("groups") or ())
    return UserInfo(name=spec.get("user", ""), groups=groups, uid=spec.get("uid", ""), extra=extra)


def _attributes(spec: JSON, user: UserInfo) -> Attributes:
    wanted = spec.get("resourceAttributes")
    if wanted is None:
        path = spec["nonResourceAttributes"]
        return Attributes(user=user, verb=path.get("verb", ""), path=path.get("path", ""), resource_request=False)
    return Attributes(
        user=user,
        verb=wanted.get("verb", ""),
        group=wanted.get("group", ""),
        version=wanted.get("version") or "*",
        resource=wanted.get("resource", ""),
        subresource=wanted.get("subresource", ""),
        namespace=wanted.get("namespace", ""),
        name=wanted.get("name", ""),
        fields=_fields(wanted.get("fieldSelector") or {}),
    )


def _fields(selector: JSON) -> Mapping[str, str]:
    """Values that a field must have; what cannot be read narrows nothing."""
    if selector.get("rawSelector"):
        return exact_fields(selector["rawSelector"])
    wanted = selector.get("requirements") or []
    return {
        each["key"]: each["values"][0]
        for each in wanted
        if each.get("operator") == "In" and len(each.get("values") or ()) == 1
    }


def _shown(value: Any) -> Any:
    """Without what is empty, as the types of the API leave it out; a pointer to an empty object stays."""
    if isinstance(value, dict):
        return {key: _shown(item) for key, item in value.items() if item is not None and item not in ("", [])}
    return [_shown(item) for item in value] if isinstance(value, list) else value


# Rules ---------------------------------------------------------------------------------------------------------------


def _errors(route: Route, meta: JSON, spec: JSON) -> list[FieldError]:
    resources, paths = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    errors: list[FieldError] = []
    if resources is not None and paths is not None:
        errors.append(_bad_path(paths, "cannot be specified in combination with resourceAttributes"))
    if resources is None and paths is None:
        detail = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        errors.append(invalid("spec.resourceAttributes", None, detail))
    if route.resource != OWN and not spec.get("user") and not spec.get("groups"):
        errors.append(invalid("spec.user", "", "at least one of user or group must be specified"))
    for name in ("fieldSelector", "labelSelector"):
        selector = (resources or {}).get(name)
        if selector is not None:
            errors += _selector_errors(selector, f"spec.resourceAttributes.{name}")
    local = route.resource == LOCAL
    if any(value for field, value in meta.items() if field != "managedFields" and not (local and field == "namespace")):
        detail = "must be empty except for namespace" if local else "must be empty"
        errors.append(invalid("metadata", meta, detail))
    if local:
        namespace = (resources or {}).get("namespace", "")
        if resources is not None and namespace != meta.get("namespace", ""):
            errors.append(invalid("spec.resourceAttributes.namespace", namespace, "must match metadata.namespace"))
        if paths is not None:
            errors.append(_bad_path(paths, "disallowed on this kind of request"))
    return errors


def _bad_path(paths: JSON, detail: str) -> FieldError:
    shown = {"Path": paths.get("path", ""), "Verb": paths.get("verb", "")}
    return invalid("spec.nonResourceAttributes", shown, detail)


def _selector_errors(selector: JSON, field: str) -> list[FieldError]:
    raw, requirements = selector.get("rawSelector"), selector.get("requirements") or []
    errors: list[FieldError] = []
    if raw and requirements:
        errors.append(invalid(f"{field}.rawSelector", raw, "may not specified at the same time as requirements"))
    if not raw and not requirements:
        detail = f"when {field} is specified, requirements or rawSelector is required"
        errors.append(required(f"{field}.requirements", detail))
    for i, requirement in enumerate(requirements):
        errors += _requirement_errors(requirement, f"{field}.requirements[{i}]")
    return errors


def _requirement_errors(requirement: JSON, field: str) -> Sequence[FieldError]:
    errors: list[FieldError] = []
    values = requirement.get("values")
    match requirement.get("operator"):
        case "In" | "NotIn" if not values:
            errors.append(required(f"{field}.values", "must be specified when `operator` is 'In' or 'NotIn'"))
        case "Exists" | "DoesNotExist" if values:
            detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            errors.append(forbidden_field(f"{field}.values", detail))
    if not requirement.get("key"):
        errors.append(required(f"{field}.key", "must be specified"))
    return errors
