"""Who is sent away when too much is in work."""

from __future__ import annotations

import pytest

from twinstack.api.resources import resource
from twinstack.server.inflight import Inflight
from twinstack.server.messages import Route, UserInfo
from twinstack.server.metrics import Metrics

ALICE = UserInfo("alice", ("system:authenticated",))
PODS = resource("", "pods")


def counted(reading: int, mutating: int) -> Metrics:
    counters = Metrics()
    for verb, count in (("list", reading), ("create", mutating)):
        for _ in range(count):
            counters.begin(verb)
    return counters


@pytest.mark.parametrize(
    ("counters", "kind", "verb", "route", "user", "refused"),
    [
        (counted(3, 2), "readOnly", "list", Route(PODS), ALICE, False),
        (counted(4, 0), "readOnly", "list", Route(PODS), ALICE, True),
        (counted(4, 0), "readOnly", "get", None, ALICE, True),
        (counted(4, 2), "mutating", "create", Route(PODS), ALICE, False),
        (counted(0, 3), "mutating", "create", Route(PODS), ALICE, True),
        (counted(4, 3), "readOnly", "watch", Route(PODS), ALICE, False),
        (counted(4, 3), "readOnly", "get", Route(PODS, "ns", "a", "log"), ALICE, False),
        (counted(4, 3), "mutating", "create", Route(PODS, "ns", "a", "exec"), ALICE, False),
        (counted(4, 3), "mutating", "create", Route(PODS), UserInfo("root", ("system:masters",)), False),
    ],
)
def test_those_beyond_the_bound(
    counters: Metrics, kind: str, verb: str, route: Route | None, user: UserInfo, refused: bool
) -> None:
    answer = Inflight(counters, reading=3, mutating=2).refusal(kind, verb, route, user)
    assert (answer is not None) is refused
    if answer is not None:
        assert (answer.status, answer.body) == (429, b"Too many requests, please try again later.\n")
        assert ("Retry-After", "1") in answer.headers
    assert Inflight(counters, reading=0, mutating=0).refusal(kind, verb, route, user) is None, "0: no bound"
