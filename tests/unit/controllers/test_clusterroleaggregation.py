"""Which rules a ClusterRole gathers."""

from __future__ import annotations

from twinstack.api.meta import LabelSelector, ObjectMeta
from twinstack.api.rbac import AggregationRule, ClusterRole
from twinstack.controllers.clusterroleaggregation import gathered

READ, WRITE, RUN = {"verbs": ["get"]}, {"verbs": ["update"]}, {"verbs": ["create"]}


def role(name: str, *rules: dict[str, list[str]], gathers: tuple[str, ...] = (), **labels: str) -> ClusterRole:
    selectors = [LabelSelector(match_labels={label: "true"}) for label in gathers]
    aggregation = AggregationRule(cluster_role_selectors=selectors) if gathers else None
    meta = ObjectMeta(name=name, labels=labels)
    return ClusterRole(metadata=meta, rules=list(rules) or None, aggregation_rule=aggregation)


def test_rules_come_by_selector_and_name_and_once() -> None:
    roles = [
        role("z", RUN, a="true"),
        role("b", WRITE, READ, a="true"),
        role("c", READ, {"verbs": ["list"]}, b="true"),
        role("empty", a="true"),
        role("other", {"verbs": ["*"]}, c="true"),
        role("no", {"verbs": ["*"]}, a="false"),
    ]
    sum_of_them = role("sum", {"verbs": ["old"]}, gathers=("a", "b"), a="true")
    assert gathered(sum_of_them, [*roles, sum_of_them]) == [WRITE, READ, RUN, {"verbs": ["list"]}]
    assert gathered(role("none", gathers=("x",)), roles) == []
    assert gathered(role("plain", READ), roles) == []
