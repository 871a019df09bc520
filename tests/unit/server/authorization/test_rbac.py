"""The mode RBAC: who has which rules, whatever has happened to roles and bindings before, and why."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from twinstack.server.authorization.decisions import Attributes, Verdict
from twinstack.server.authorization.rbac.authorizer import RBAC
from twinstack.server.authorization.rbac.index import PolicyIndex
from twinstack.server.messages import UserInfo

JSON = dict[str, Any]


def role(name: str, namespace: str = "", verbs: tuple[str, ...] = ("get",)) -> JSON:
    return {
        "metadata": {"name": name, "namespace": namespace},
        "rules": [{"verbs": list(verbs), "apiGroups": [""], "resources": ["pods"]}],
    }


def binding(name: str, of: str, *subjects: JSON, namespace: str = "", kind: str = "ClusterRole") -> JSON:
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": of}
    return {"metadata": {"name": name, "namespace": namespace}, "roleRef": reference, "subjects": list(subjects)}


def user(name: str) -> JSON:
    return {"kind": "User", "name": name}


def index_of(roles: list[JSON], bindings: list[JSON]) -> PolicyIndex:
    index = PolicyIndex()
    for each in roles:
        index.put_role(json.dumps(each).encode())
    for each in bindings:
        meta = each["metadata"]
        index.put_binding(f"{meta['namespace']}/{meta['name']}", json.dumps(each).encode())
    return index


def may(index: PolicyIndex, who: UserInfo, namespace: str = "", verb: str = "get") -> tuple[bool, str]:
    decision = RBAC(index).authorize(Attributes(user=who, verb=verb, resource="pods", namespace=namespace))
    return decision.verdict is Verdict.ALLOW, decision.reason


def test_reasons_name_binding_role_and_subject() -> None:
    group = {"kind": "Group", "name": "devs"}
    account = {"kind": "ServiceAccount", "name": "robot"}
    other = {"kind": "ServiceAccount", "name": "robot", "namespace": "ci"}
    index = index_of(
        [role("reader"), role("local", "ns")],
        [
            binding("c", "reader", user("bob")),
            binding("g", "reader", user("x"), group, namespace="ns"),
            binding("a", "local", account, other, namespace="ns", kind="Role"),
        ],
    )
    start = "RBAC: allowed by "
    assert may(index, UserInfo("bob")) == (True, f'{start}ClusterRoleBinding "c" of ClusterRole "reader" to User "bob"')
    dev = UserInfo("dev", ("devs",))
    assert may(index, dev, "ns") == (True, f'{start}RoleBinding "g/ns" of ClusterRole "reader" to Group "devs"')
    for name, shown in (("ns:robot", "robot/ns"), ("ci:robot", "robot/ci")):
        allowed = may(index, UserInfo(f"system:serviceaccount:{name}"), "ns")
        assert allowed == (True, f'{start}RoleBinding "a/ns" of Role "local" to ServiceAccount "{shown}"')
    for who, namespace in ((dev, ""), (dev, "other"), (UserInfo("system:serviceaccount:x:robot"), "ns")):
        assert may(index, who, namespace) == (False, "")
    assert may(index, UserInfo("bob"), "any", "delete") == (False, "")


def test_roles_that_are_missing_are_told() -> None:
    index = index_of(
        [], [binding("c", "no", user("bob")), binding("r", "nor", user("bob"), namespace="n", kind="Role")]
    )
    first, second = (f'{kind}.rbac.authorization.k8s.io "{name}" not found' for kind, name in _MISSING)
    assert may(index, UserInfo("bob")) == (False, f"RBAC: {first}")
    assert may(index, UserInfo("bob"), "n") == (False, f"RBAC: [{first}, {second}]")
    assert RBAC(index).rules_for(UserInfo("bob"), "n").error == f"[{first}, {second}]"


_MISSING = (("clusterrole", "no"), ("role", "nor"))

NAMESPACES = ("", "n1", "n2")
names = st.sampled_from("abc")
subjects = st.builds(
    lambda kind, name, namespace: {"kind": kind, "name": name, "namespace": namespace},
    st.sampled_from(("User", "Group", "ServiceAccount")),
    names,
    st.sampled_from(("", "n1")),
)
bindings = st.builds(
    lambda name, of, who, namespace, kind: binding(
        name, of, *who, namespace=namespace, kind=kind if namespace else "ClusterRole"
    ),
    names,
    names,
    st.lists(subjects, max_size=3),
    st.sampled_from(NAMESPACES),
    st.sampled_from(("Role", "ClusterRole")),
)
roles = st.builds(role, names, st.sampled_from(NAMESPACES), st.sampled_from([("get",), ("list",), ("*",)]))
steps = st.lists(st.tuples(st.booleans(), roles | bindings), max_size=14)
askers = st.builds(
    UserInfo,
    st.sampled_from(("a", "b", "system:serviceaccount:n1:a", "system:serviceaccount:n2:b")),
    st.lists(names, max_size=2, unique=True).map(tuple),
)


def concerns(subject: JSON, asker: UserInfo, namespace: str) -> bool:
    if subject["kind"] == "ServiceAccount":
        home = subject["namespace"] or namespace
        return bool(home) and asker.name == f"system:serviceaccount:{home}:{subject['name']}"
    return subject["name"] == asker.name if subject["kind"] == "User" else subject["name"] in asker.groups


@given(steps, askers, st.sampled_from(NAMESPACES), st.sampled_from(("get", "list")))
def test_the_index_says_what_a_search_would(
    history: list[tuple[bool, JSON]], asker: UserInfo, namespace: str, verb: str
) -> None:
    """Objects come, change and go in any order; what is left decides, found by looking at all of it."""
    index = PolicyIndex()
    left: dict[tuple[bool, str, str], JSON] = {}
    for present, obj in history:
        meta = obj["metadata"]
        is_binding = "roleRef" in obj
        place = (is_binding, meta["namespace"], meta["name"])
        key, value = f"{meta['namespace']}/{meta['name']}", json.dumps(obj).encode()
        if present:
            left[place] = obj
            index.put_binding(key, value) if is_binding else index.put_role(value)
        elif is_binding:
            left.pop(place, None)
            index.drop_binding(key)
        elif left.pop(place, None) is not None:
            index.drop_role(value)
    expected = False
    for (is_binding, where, _), obj in left.items():
        if not is_binding or where not in ("", namespace):
            continue
        if any(concerns(subject, asker, where) for subject in obj["subjects"]):
            reference = obj["roleRef"]
            found = left.get((False, where if reference["kind"] == "Role" else "", reference["name"]))
            expected = expected or (found is not None and bool({verb, "*"} & set(found["rules"][0]["verbs"])))
    assert may(index, asker, namespace, verb)[0] is expected
