"""Roles, ClusterRoles and their bindings (rbac.authorization.k8s.io/v1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twinstack.api.errors import FieldError, invalid, not_supported, required
from twinstack.api.validation import NameRule, dns_subdomain, each, path_segment
from twinstack.server.strategy.base import Strategy, WriteContext
from twinstack.server.strategy.label_selectors import selector_errors

JSON = dict[str, Any]

_GROUP = "rbac.authorization.k8s.io"
_SUBJECTS = ("ServiceAccount", "User", "Group")


class RoleStrategy(Strategy):
    """Roles and ClusterRoles; only the latter may speak of paths that are no resources."""

    name_rule: NameRule = staticmethod(path_segment)

    def validate(self, ctx: WriteContext, obj: JSON, old: JSON | None) -> Sequence[FieldError]:
        errors: list[FieldError] = []
        for i, rule in enumerate(obj.get("rules") or []):
            errors += _rule_errors(rule, f"rules[{i}]", namespaced=ctx.resource.namespaced)
        aggregation = obj.get("aggregationRule")
        if aggregation is None:
            return errors
        selectors: Sequence[JSON] = aggregation.get("clusterRoleSelectors") or []
        at = "aggregationRule.clusterRoleSelectors"
        if not selectors:
            errors.append(required(at, "at least one clusterRoleSelector required if aggregationRule is non-nil"))
        for i, selector in enumerate(selectors):
            errors += selector_errors(selector, f"{at}[{i}]")
        return errors


def _rule_errors(rule: JSON, field: str, *, namespaced: bool) -> list[FieldError]:
    groups, resources, urls = (rule.get(name) or [] for name in ("apiGroups", "resources", "nonResourceURLs"))
    errors: list[FieldError] = []
    if not rule.get("verbs"):
        errors.append(required(f"{field}.verbs", "verbs must contain at least one value"))
    if urls:
        at = f"{field}.nonResourceURLs"
        if namespaced:
            errors.append(invalid(at, urls, "namespaced rules cannot apply to non-resource URLs"))
        if groups or resources or rule.get("resourceNames"):
            detail = "rules cannot apply to both regular resources and non-resource URLs"
            errors.append(invalid(at, urls, detail))
        return errors
    if not groups:
        errors.append(required(f"{field}.apiGroups", "resource rules must supply at least one api group"))
    if not resources:
        errors.append(required(f"{field}.resources", "resource rules must supply at least one resource"))
    return errors


class BindingStrategy(Strategy):
    """RoleBindings and ClusterRoleBindings: which role never changes, to whom may."""

    name_rule: NameRule = staticmethod(path_segment)

    def default(self, obj: JSON) -> None:
        reference: JSON = obj.setdefault("roleRef", {})
        if not reference.get("apiGroup"):
            reference["apiGroup"] = _GROUP
        for subject in obj.get("subjects") or []:
            if not subject.get("apiGroup") and subject.get("kind") in ("User", "Group"):
                subject["apiGroup"] = _GROUP

    def validate(self, ctx: WriteContext, obj: JSON, old: JSON | None) -> Sequence[FieldError]:
        reference = obj["roleRef"]
        kinds = ("Role", "ClusterRole") if ctx.resource.namespaced else ("ClusterRole",)
        errors: list[FieldError] = []
        if reference["apiGroup"] != _GROUP:
            errors.append(not_supported("roleRef.apiGroup", reference["apiGroup"], (_GROUP,)))
        if reference.get("kind", "") not in kinds:
            errors.append(not_supported("roleRef.kind", reference.get("kind", ""), kinds))
        name = reference.get("name", "")
        if name:
            errors += each("roleRef.name", name, path_segment(name))
        else:
            errors.append(required("roleRef.name"))
        for i, subject in enumerate(obj.get("subjects") or []):
            errors += _subject_errors(subject, f"subjects[{i}]", namespaced=ctx.resource.namespaced)
        if old is not None and old["roleRef"] != reference:
            shown = {"APIGroup": reference["apiGroup"], "Kind": reference.get("kind", ""), "Name": name}
            errors.append(invalid("roleRef", shown, "cannot change roleRef"))
        return errors


def _subject_errors(subject: JSON, field: str, *, namespaced: bool) -> list[FieldError]:
    kind, name, group = (subject.get(key, "") for key in ("kind", "name", "apiGroup"))
    errors: list[FieldError] = []
    if not name:
        errors.append(required(f"{field}.name"))
    if kind == "ServiceAccount":
        if name:
            errors += each(f"{field}.name", name, dns_subdomain(name))
        if group:
            errors.append(not_supported(f"{field}.apiGroup", group, ("",)))
        if not namespaced and not subject.get("namespace"):
            errors.append(required(f"{field}.namespace"))
    elif kind in _SUBJECTS:
        if group != _GROUP:
            errors.append(not_supported(f"{field}.apiGroup", group, (_GROUP,)))
    else:
        errors.append(not_supported(f"{field}.kind", kind, _SUBJECTS))
    return errors
