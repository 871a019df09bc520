from __future__ import annotations

import signal

import pytest
from tests.unit.node.building import pod, run

from twinstack.api.core import Container
from twinstack.node.termination import order, stop_signal


@pytest.mark.parametrize(
    ("name", "number"),
    [
        (None, signal.SIGTERM),
        ("SIGUSR1", signal.SIGUSR1),
        ("SIGRTMIN", signal.SIGRTMIN),
        ("SIGRTMIN+3", signal.SIGRTMIN + 3),
        ("SIGRTMAX-2", signal.SIGRTMAX - 2),
        ("SIGNONE", signal.SIGTERM),
    ],
)
def test_signals(name: str | None, number: int) -> None:
    assert stop_signal(Container(lifecycle={"stopSignal": name} if name else None)) == number
    assert stop_signal(Container()) == signal.SIGTERM


def test_sidecars_wait_for_those_whom_they_serve() -> None:
    of = pod("a", "b", sidecars=("s", "t"), init=("i",))
    runs = {name: run(name).key for name in "abst"}
    assert order(of, [run(name) for name in "stab"]) == {
        runs["a"]: [],
        runs["b"]: [],
        runs["t"]: [runs["a"], runs["b"]],
        runs["s"]: [runs["a"], runs["b"], runs["t"]],
    }
    assert order(of, [run("s"), run("i")]) == {runs["s"]: [], run("i").key: []}
    assert order(of, []) == {}
