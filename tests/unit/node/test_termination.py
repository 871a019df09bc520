from __future__ import annotations

import signal

import pytest
from tests.unit.node.building import pod, run

from twinstack.api.core import Container
from twinstack.node.termination import order, signal_number, stop_signal


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
    assert stop_signal(Container(lifecycle={"stopSignal": name} if name else None), "") == number
    assert stop_signal(None, name or "") == number


def test_the_pods_signal_goes_before_the_images() -> None:
    assert stop_signal(Container(lifecycle={"stopSignal": "SIGHUP"}), "SIGQUIT") == signal.SIGHUP
    assert stop_signal(Container(), "SIGQUIT") == signal.SIGQUIT


@pytest.mark.parametrize(
    ("name", "number"),
    [("quit", signal.SIGQUIT), ("3", 3), ("0", None), ("65", None), ("RTMIN+1", signal.SIGRTMIN + 1), ("DFL", None)],
)
def test_signals_as_images_name_them(name: str, number: int | None) -> None:
    assert signal_number(name) == number


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
