"""Types of rbac.authorization.k8s.io/v1."""

from __future__ import annotations

from typing import Any

from twinstack.api.meta import LabelSelector, Object, Struct


class AggregationRule(Struct):
    cluster_role_selectors: list[LabelSelector] = []


class ClusterRole(Object):
    """Rules are kept as they are written: whoever reads them here only copies them."""

    rules: list[dict[str, Any]] | None = None
    aggregation_rule: AggregationRule | None = None
