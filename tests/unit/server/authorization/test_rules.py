"""What rules allow and cover: every field against a plain reading of the documentation, at random."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinstack.server.authorization.decisions import Attributes
from twinstack.server.authorization.rbac.rules import PolicyRule, Rule, compact, described, uncovered
from twinstack.server.messages import UserInfo

BOB = UserInfo("bob")

VERBS = ("get", "list", "create", "bind")
GROUPS = ("", "apps")
RESOURCES = ("pods", "pods/log", "services", "deployments/scale", "scale")
NAMES = ("", "a", "b")
PATHS = ("/", "/api", "/api/v1", "/healthz", "/healthz/etcd")


def some(*values: str) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(values), max_size=3, unique=True)


resource_rules = st.builds(
    PolicyRule,
    verbs=some(*VERBS, "*"),
    api_groups=some(*GROUPS, "*"),
    resources=some(*RESOURCES, "*", "*/scale", "*/log"),
    resource_names=some("a", "b"),
)
path_rules = st.builds(PolicyRule, verbs=some("get", "post", "*"), non_resource_urls=some(*PATHS, "*", "/api/*", "/h*"))
rules = resource_rules | path_rules


def asked(verb: str, group: str, resource: str, name: str) -> Attributes:
    plural, _, subresource = resource.partition("/")
    return Attributes(user=BOB, verb=verb, group=group, resource=plural, subresource=subresource, name=name)


resource_questions = st.builds(
    asked, st.sampled_from(VERBS), st.sampled_from(GROUPS), st.sampled_from(RESOURCES), st.sampled_from(NAMES)
)
path_questions = st.builds(
    lambda verb, path: Attributes(user=BOB, verb=verb, path=path, resource_request=False),
    st.sampled_from(("get", "post")),
    st.sampled_from(PATHS),
)


def allows(rule: PolicyRule, question: Attributes) -> bool:
    """The documentation, word by word (RBAC, PolicyRule)."""
    verbs = rule.verbs or []
    if question.verb not in verbs and "*" not in verbs:
        return False
    if not question.resource_request:
        return any(
            url == question.path or (url.endswith("*") and question.path.startswith(url[:-1]))
            for url in rule.non_resource_urls or []
        )
    groups, resources, names = rule.api_groups or [], rule.resources or [], rule.resource_names or []
    whole = question.resource + (f"/{question.subresource}" if question.subresource else "")
    fits = "*" in resources or whole in resources
    if question.subresource:
        fits = fits or f"*/{question.subresource}" in resources
    return fits and (question.group in groups or "*" in groups) and (not names or question.name in names)


@given(rules, resource_questions | path_questions)
def test_a_rule_allows_what_it_says(rule: PolicyRule, question: Attributes) -> None:
    assert Rule(rule).allows(question) == allows(rule, question)


@given(st.lists(rules, max_size=3), st.lists(rules, max_size=2), resource_questions | path_questions)
def test_what_is_covered_is_allowed(owned: list[PolicyRule], wanted: list[PolicyRule], question: Attributes) -> None:
    """Whoever has what covers a role can do all that the role allows; without a gap nothing is uncovered."""
    missing = uncovered(owned, wanted)
    if not missing and any(Rule(rule).allows(question) for rule in wanted):
        assert any(Rule(rule).allows(question) for rule in owned)
    assert not uncovered(wanted, wanted)
    assert uncovered([], missing) == missing


@given(st.lists(rules, max_size=4), resource_questions | path_questions)
def test_compact_rules_are_the_same_rules(given_rules: list[PolicyRule], question: Attributes) -> None:
    short = compact(given_rules)
    assert len(short) <= len(given_rules)
    before = any(Rule(rule).allows(question) for rule in given_rules)
    assert any(Rule(rule).allows(question) for rule in short) == before


@pytest.mark.parametrize(
    ("owned", "wanted", "covered"),
    [
        (PolicyRule(["*"], [""], ["pods"]), PolicyRule(["get", "list"], [""], ["pods"]), True),
        (PolicyRule(["get"], [""], ["pods"]), PolicyRule(["*"], [""], ["pods"]), False),
        (PolicyRule(["get"], [""], ["*"]), PolicyRule(["get"], [""], ["pods/log", "*"]), True),
        (PolicyRule(["get"], [""], ["*/log"]), PolicyRule(["get"], [""], ["pods/log"]), True),
        (PolicyRule(["get"], [""], ["pods"]), PolicyRule(["get"], [""], ["pods/log"]), False),
        (PolicyRule(["get"], [""], ["pods"], ["a"]), PolicyRule(["get"], [""], ["pods"], ["a"]), True),
        (PolicyRule(["get"], [""], ["pods"], ["a"]), PolicyRule(["get"], [""], ["pods"]), False),
        (PolicyRule(["get"], [""], ["pods"]), PolicyRule(["get"], [""], ["pods"], ["a"]), True),
        (PolicyRule(["get"], non_resource_urls=["/a/*"]), PolicyRule(["get"], non_resource_urls=["/a/b"]), True),
        (PolicyRule(["get"], non_resource_urls=["/a"]), PolicyRule(["get"], non_resource_urls=["/a/*"]), False),
        (PolicyRule(["*"], ["*"], ["*"]), PolicyRule(["get"], non_resource_urls=["/a"]), False),
    ],
)
def test_covering(owned: PolicyRule, wanted: PolicyRule, covered: bool) -> None:
    assert bool(uncovered([owned], [wanted])) is not covered


def test_descriptions_put_verbs_together() -> None:
    missing = uncovered([], [PolicyRule(["get", "list"], [""], ["pods"]), PolicyRule(["get"], [""], ["pods"], ["a"])])
    assert [described(rule) for rule in compact(missing)] == [
        '{APIGroups:[""], Resources:["pods"], Verbs:["get" "list"]}',
        '{APIGroups:[""], Resources:["pods"], ResourceNames:["a"], Verbs:["get"]}',
    ]
    assert described(PolicyRule(["get"], non_resource_urls=["/a"])) == '{NonResourceURLs:["/a"], Verbs:["get"]}'
