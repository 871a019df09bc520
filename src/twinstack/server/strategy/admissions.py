"""Defaults of admission webhooks and policies (admissionregistration.k8s.io/v1), which nothing calls or evaluates."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twinstack.server.strategy.base import Strategy

JSON = dict[str, Any]

_TIMEOUT = 10  # seconds that a webhook has
_PORT = 443


class WebhookStrategy(Strategy):
    """ValidatingWebhookConfiguration and MutatingWebhookConfiguration."""

    reinvocation = ""

    def default(self, obj: JSON) -> None:
        for webhook in obj.get("webhooks") or []:
            _default_matching(webhook)
            webhook.setdefault("failurePolicy", "Fail")
            webhook.setdefault("timeoutSeconds", _TIMEOUT)
            if self.reinvocation:
                webhook.setdefault("reinvocationPolicy", self.reinvocation)
            _default_scopes(webhook.get("rules"))
            service = (webhook.get("clientConfig") or {}).get("service")
            if service is not None:
                service.setdefault("port", _PORT)


class MutatingWebhookStrategy(WebhookStrategy):
    reinvocation = "Never"


class PolicyStrategy(Strategy):
    """ValidatingAdmissionPolicy and MutatingAdmissionPolicy."""

    def default(self, obj: JSON) -> None:
        spec = obj.get("spec") or {}
        if spec:
            spec.setdefault("failurePolicy", "Fail")
        _default_constraints(spec.get("matchConstraints"))


class PolicyBindingStrategy(Strategy):
    def default(self, obj: JSON) -> None:
        _default_constraints((obj.get("spec") or {}).get("matchResources"))


def _default_constraints(constraints: JSON | None) -> None:
    if constraints is not None:
        _default_matching(constraints)
        _default_scopes(constraints.get("resourceRules"))
        _default_scopes(constraints.get("excludeResourceRules"))


def _default_matching(matching: JSON) -> None:
    matching.setdefault("matchPolicy", "Equivalent")
    matching.setdefault("namespaceSelector", {})
    matching.setdefault("objectSelector", {})


def _default_scopes(rules: Iterable[JSON] | None) -> None:
    for rule in rules or ():
        rule.setdefault("scope", "*")
