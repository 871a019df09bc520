"""Who a request is from costs microseconds, whatever it shows; and what a node may read is one look-up.

    bench/authentication.py [--pods 1000,20000] [--requests 20000]

Measured on the parts themselves, with a real store behind them: a client certificate, a static token, the token of a
service account bound to a Pod, seen before and seen first (the signature is verified); a decision of the mode Node
about a Secret of the node, with so many Pods. The floor is the keyed
hash of a token, under which it is looked up. Figures are medians of rounds, in microseconds of one core.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.apiserver.measured import write_results
from tests.api_client import CONFIG

from twinstack.api.resources import resource
from twinstack.server.accounts.authenticating import AccountTokens
from twinstack.server.accounts.flags import Terms
from twinstack.server.accounts.issuing import TokenRequests
from twinstack.server.accounts.keys import AccountKeys, make_keys
from twinstack.server.authentication import ANONYMOUS, Authenticator
from twinstack.server.authorization.decisions import Attributes
from twinstack.server.messages import Route, UserInfo
from twinstack.server.nodes.authorizer import NodeAuthorizer
from twinstack.server.nodes.graph import NodeGraph
from twinstack.server.registry import SYSTEM, Registry
from twinstack.store.sqlite import SQLiteStore

_ROUNDS = 7
ACCOUNTS, PODS = resource("", "serviceaccounts"), resource("", "pods")
_NODE = UserInfo("system:node:n1", ("system:nodes",))


def microseconds(work: Callable[[], object], times: int) -> float:
    """Of one call, the median of some rounds."""
    rounds = []
    for _ in range(_ROUNDS):
        started = time.process_time()
        for _ in range(times):
            work()
        rounds.append((time.process_time() - started) / times * 1e6)
    return round(statistics.median(rounds), 2)


async def authentication(directory: Path, requests: int) -> dict[str, float]:
    registry = Registry(SQLiteStore(str(directory / "db")), CONFIG)
    await registry.open()
    try:
        keys = AccountKeys(issuers=["https://i"], audiences=["https://i"], signing_file=make_keys(directory))
        terms = Terms()
        await registry.create(Route(ACCOUNTS, "default"), {"metadata": {"name": "bot"}}, SYSTEM)
        spec = {"serviceAccountName": "bot", "containers": [{"name": "c", "image": "i"}]}
        await registry.create(Route(PODS, "default"), {"metadata": {"name": "p"}, "spec": spec}, SYSTEM)
        ref = {"kind": "Pod", "apiVersion": "v1", "name": "p"}
        route = Route(ACCOUNTS, "default", "bot", "token")
        issuing = TokenRequests(registry, keys, terms)

        def issue() -> Any:
            return issuing.issue(route, {"spec": {"boundObjectRef": ref}}, SYSTEM)

        token = issue()[0]["status"]["token"]
        accounts = AccountTokens(keys, registry.cache)
        authenticator = Authenticator({"static": SYSTEM}, [accounts], keys.audiences)

        def shown(secret: str) -> Callable[[], object]:
            headers = {"authorization": f"Bearer {secret}"}
            return lambda: authenticator.authenticate(ANONYMOUS, headers)

        def first() -> object:
            return AccountTokens(keys, registry.cache).authenticate(token, b"")

        return {
            "floor: keyed hash": microseconds(lambda: blake2b(token.encode(), key=b"k" * 32).digest(), requests),
            "certificate": microseconds(lambda: authenticator.authenticate(SYSTEM, {}), requests),
            "static token": microseconds(shown("static"), requests),
            "account's token": microseconds(shown(token), requests),
            "account's token, seen first": microseconds(first, requests // 50),
            "issue a token": microseconds(issue, requests // 50),
        }
    finally:
        await registry.close()


def decisions(pods: int, requests: int) -> dict[str, float]:
    """Of the mode Node, with so many Pods on a hundred nodes."""
    graph = NodeGraph()
    objects = [
        {
            "metadata": {"name": f"p{i}", "namespace": "ns", "uid": str(i)},
            "spec": {
                "nodeName": f"n{i % 100}",
                "serviceAccountName": "default",
                "volumes": [{"name": "v", "secret": {"secretName": f"s{i}"}}],
            },
        }
        for i in range(pods)
    ]
    stored = [(f"pods/ns/p{i}", json.dumps(obj).encode()) for i, obj in enumerate(objects)]
    started = time.process_time()
    for key, value in stored:
        graph.put_pod(key, value)
    added = (time.process_time() - started) / pods * 1e6
    authorizer = NodeAuthorizer(graph)
    asked = Attributes(user=_NODE, verb="get", resource="secrets", namespace="ns", name="s1")
    assert authorizer.authorize(asked).allowed
    return {
        "a Pod is bound": round(added, 2),
        "a Pod's status changes": microseconds(lambda: graph.put_pod(*stored[0]), requests),
        "a decision": microseconds(lambda: authorizer.authorize(asked), requests),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pods", default="1000,20000")
    parser.add_argument("--requests", type=int, default=20_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="authentication-") as directory:
        results: dict[str, Any] = {"authentication": asyncio.run(authentication(Path(directory), args.requests))}
    for pods in map(int, args.pods.split(",")):
        results[f"mode Node, {pods} Pods"] = decisions(pods, args.requests)
    for name, figures in results.items():
        print(name)
        for what, value in figures.items():
            print(f"  {what:32} {value:9.2f} µs")
    write_results("authentication", results)


if __name__ == "__main__":
    main()
