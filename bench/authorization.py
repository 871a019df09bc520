"""A decision of RBAC costs microseconds, and not more with more bindings of others.

    bench/authorization.py [--bindings 10,5000] [--decisions 20000]

The index is filled with the default roles and bindings and as many RoleBindings of other users, each to a Role of its
own, in as many namespaces. Asked is what four kinds of clients ask: a service account with one RoleBinding, a user
bound by two groups, a component with a default role, and a stranger, who is refused. The floor is the question itself:
the request read into attributes. Figures are the medians of rounds, in microseconds of one core.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.apiserver.measured import write_results

from twinstack.server.authorization.modes import in_order
from twinstack.server.authorization.rbac import bootstrap_policy
from twinstack.server.authorization.rbac.authorizer import RBAC
from twinstack.server.authorization.rbac.index import PolicyIndex
from twinstack.server.authorization.requests import attributes_of
from twinstack.server.messages import Request, UserInfo

_ROUNDS = 7
_RULE = {"verbs": ["get", "list", "watch"], "apiGroups": [""], "resources": ["pods", "services"]}
_AUTHENTICATED = "system:authenticated"
_ASKERS = {
    "service account": UserInfo("system:serviceaccount:ns0:robot", ("system:serviceaccounts", _AUTHENTICATED)),
    "by two groups": UserInfo("dev", ("g0", "g1", _AUTHENTICATED)),
    "component": UserInfo("system:kube-scheduler", (_AUTHENTICATED,)),
    "refused": UserInfo("stranger", ("x", "y", _AUTHENTICATED)),
}


def index_with(bindings: int) -> PolicyIndex:
    """The default policy, and `bindings` RoleBindings of others beside one for each asker."""
    index = PolicyIndex()
    policy = bootstrap_policy.read()
    for role in policy.roles:
        index.put_role(json.dumps(role).encode())
    for i, binding in enumerate(policy.bindings):
        index.put_binding(f"default/{i}", json.dumps(binding).encode())
    for i in range(bindings):
        _bind(index, f"ns{i}", [{"kind": "User", "name": f"user-{i}"}, {"kind": "Group", "name": f"others-{i}"}])
    robot = {"kind": "ServiceAccount", "name": "robot"}
    _bind(index, "ns0", [robot, {"kind": "Group", "name": "g0"}, {"kind": "Group", "name": "g1"}], "own")
    return index


def _bind(index: PolicyIndex, namespace: str, subjects: list[dict[str, str]], name: str = "b") -> None:
    meta = {"namespace": namespace, "name": name}
    index.put_role(json.dumps({"metadata": meta, "rules": [_RULE]}).encode())
    binding = {"metadata": meta, "roleRef": {"kind": "Role", "name": name}, "subjects": subjects}
    index.put_binding(f"{namespace}/{name}", json.dumps(binding).encode())


def microseconds(work: Callable[[], object], times: int) -> float:
    """What one call costs."""
    rounds = []
    for _ in range(_ROUNDS):
        started = time.process_time()
        for _ in range(times):
            work()
        rounds.append((time.process_time() - started) / times * 1e6)
    return statistics.median(rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bindings", default="10,5000")
    parser.add_argument("--decisions", type=int, default=20_000)
    args = parser.parse_args()
    request = Request("GET", "/api/v1/namespaces/ns0/pods", {"limit": ["500"]}, {}, b"", _ASKERS["refused"])
    figures = {"floor_us": microseconds(lambda: attributes_of(request, request.user), args.decisions)}
    print(f"{'the question':<28}{figures['floor_us']:6.2f} µs")
    for count in map(int, args.bindings.split(",")):
        authorizer = in_order(["RBAC"], {"RBAC": partial(RBAC, index_with(count))})
        for name, user in _ASKERS.items():
            question = attributes_of(request, user)
            assert authorizer.authorize(question).allowed is (name != "refused")
            cost = microseconds(partial(authorizer.authorize, question), args.decisions)
            figures[f"{name.replace(' ', '_')}_{count}_us"] = cost
            print(f"{name}, {count} bindings".ljust(28) + f"{cost:6.2f} µs")
    write_results("authorization", figures)


if __name__ == "__main__":
    main()
