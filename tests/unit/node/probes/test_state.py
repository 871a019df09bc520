from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinstack.api.core import Container
from twinstack.node.probes.state import Attempt, Health, Probed, ProbeKind, ProbeSpec, specs

START = 1_000_000.25
STARTUP, LIVENESS, READINESS = ProbeKind.STARTUP, ProbeKind.LIVENESS, ProbeKind.READINESS
HTTP = {"httpGet": {"port": 80}}
COUNTED = START + 100  # by then every failure counts


def probed(*kinds: ProbeKind, started: bool = False, ready: bool = False, **spec: int) -> Probed:
    return Probed({kind: ProbeSpec(HTTP, **spec) for kind in kinds}, START, started=started, ready=ready)


def test_a_probe_is_read_with_the_defaults_of_the_api() -> None:
    container = Container(name="c", liveness_probe={"exec": {"command": ["true"]}, "terminationGracePeriodSeconds": 3})
    assert specs(container) == {LIVENESS: ProbeSpec(container.liveness_probe or {}, 0, 1, 10, 1, 3, 3)}
    full = {
        "httpGet": {},
        "initialDelaySeconds": 2,
        "timeoutSeconds": 3,
        "periodSeconds": 4,
        "successThreshold": 5,
        "failureThreshold": 6,
    }
    assert ProbeSpec.of(full) == ProbeSpec(full, 2, 3, 4, 5, 6, None)


def test_which_probes_a_container_has() -> None:
    assert specs(Container(name="c")) == {}
    assert list(specs(Container(startup_probe=HTTP, liveness_probe=HTTP, readiness_probe=HTTP))) == list(ProbeKind)


@pytest.mark.parametrize(
    ("kinds", "health"),
    [
        ((), Health(True, True)),
        ((LIVENESS,), Health(True, True)),
        ((READINESS,), Health(True, False)),
        ((STARTUP,), Health(False, False)),
        ((STARTUP, LIVENESS, READINESS), Health(False, False)),
    ],
)
def test_the_health_before_any_result(kinds: Sequence[ProbeKind], health: Health) -> None:
    assert probed(*kinds).health == health


def held(results: Sequence[bool], initial: bool | None, success_threshold: int, failure_threshold: int) -> bool | None:
    """By definition: the latest result that ends a row as long as its threshold."""
    value = initial
    for end in range(1, len(results) + 1):
        last = results[end - 1]
        row = next((n for n in range(end) if results[end - 1 - n] is not last), end)
        if row >= (success_threshold if last else failure_threshold):
            value = last
    return value


@pytest.mark.parametrize("thresholds", list(itertools.product((1, 2, 3), repeat=2)))
@pytest.mark.parametrize("length", range(8))
def test_readiness_follows_the_thresholds(thresholds: tuple[int, int], length: int) -> None:
    success, failure = thresholds
    for results in itertools.product((True, False), repeat=length):
        state = probed(READINESS, success_threshold=success, failure_threshold=failure)
        changes = [state.record(READINESS, result, COUNTED) for result in results]
        expected = [held(results[:n], False, success, failure) for n in range(length + 1)]
        assert state.health == Health(True, bool(expected[-1]))
        assert changes == [bool(a) != bool(b) for a, b in itertools.pairwise(expected)]


@pytest.mark.parametrize("failure", [1, 2, 3])
@pytest.mark.parametrize("length", range(8))
@pytest.mark.parametrize("kind", [LIVENESS, STARTUP])
def test_a_container_that_fails_is_probed_no_more(kind: ProbeKind, length: int, failure: int) -> None:
    for results in itertools.product((True, False), repeat=length):
        state = probed(kind, failure_threshold=failure)
        over = False
        for n in range(length):
            assert state.wants(kind) is not over
            state.record(kind, results[n], COUNTED)
            seen = results[: n + 1]
            failed = held(seen, None, 1, failure) is False
            over = over or failed or (kind is STARTUP and results[n])
            if failed and not (kind is STARTUP and any(seen)):
                assert state.health.failed is kind


def test_startup_holds_the_others_back() -> None:
    state = probed(STARTUP, LIVENESS, READINESS)
    assert [kind for kind in ProbeKind if state.wants(kind)] == [STARTUP]
    assert not state.record(READINESS, True, COUNTED)
    assert not state.record(LIVENESS, False, COUNTED)
    assert state.record(STARTUP, True, COUNTED)
    assert state.health == Health(True, False)
    assert [kind for kind in ProbeKind if state.wants(kind)] == [LIVENESS, READINESS]
    assert state.record(READINESS, True, COUNTED)
    assert state.health == Health(True, True)


def test_a_failed_startup_or_liveness_is_named() -> None:
    state = probed(STARTUP, LIVENESS, failure_threshold=2)
    assert not state.record(STARTUP, False, COUNTED)
    assert state.record(STARTUP, False, COUNTED)
    assert state.health == Health(False, False, STARTUP)
    state = probed(LIVENESS, READINESS, failure_threshold=1)
    state.record(READINESS, True, COUNTED)
    assert state.record(LIVENESS, False, COUNTED)
    assert state.health == Health(True, True, LIVENESS)
    assert not any(state.wants(kind) for kind in ProbeKind)


def test_a_probe_that_went_wrong_says_nothing() -> None:
    state = probed(LIVENESS, failure_threshold=2)
    assert not state.record(LIVENESS, False, COUNTED)
    assert not state.record(LIVENESS, None, COUNTED)
    assert state.record(LIVENESS, False, COUNTED)


def test_a_failure_that_does_not_count() -> None:
    state = probed(STARTUP, failure_threshold=1)
    assert not state.record(STARTUP, False, START, counts=False)
    assert state.health == Health(False, False)
    assert state.record(STARTUP, True, START, counts=False)  # a success always does
    assert state.health == Health(True, True)


def test_what_an_earlier_agent_knew() -> None:
    assert probed(STARTUP, READINESS, started=True, ready=True).health == Health(True, True)
    assert probed(STARTUP, READINESS, started=True).health == Health(True, False)
    assert probed(READINESS, ready=True).wants(READINESS)
    assert not probed(STARTUP, started=True).wants(STARTUP)


def test_a_pod_that_is_deleted_is_probed_for_readiness_alone() -> None:
    state = probed(LIVENESS, READINESS, failure_threshold=1)
    state.retire()
    assert [kind for kind in ProbeKind if state.wants(kind)] == [READINESS]
    assert not state.record(LIVENESS, False, COUNTED)
    assert state.health.failed is None
    state = probed(STARTUP)
    state.retire()
    assert not state.wants(STARTUP)
    assert state.health == Health(False, False)  # it never got there


def attempts(state: Probed, kind: ProbeKind, count: int, duration: float = 0.0, now: float = START) -> list[Attempt]:
    """As they come when each fails after `duration`. Failures are not recorded as results."""
    found = []
    for _ in range(count):
        attempt = state.next(kind, now)
        found.append(attempt)
        now = max(attempt.at, now) + duration
        state.record(kind, None, now)
    return found


def offsets(found: Sequence[Attempt]) -> list[float]:
    return [round(attempt.at - START, 6) for attempt in found]


def test_liveness_is_first_looked_at_after_a_period() -> None:
    found = attempts(probed(LIVENESS, period=10), LIVENESS, 3)
    assert offsets(found) == [10, 20, 30]
    assert all(attempt.counts for attempt in found)


@pytest.mark.parametrize(
    ("delay", "period", "first"), [(0, 10, 10), (5, 10, 10), (10, 10, 10), (11, 10, 20), (3, 2, 4), (1, 1, 1)]
)
def test_liveness_waits_for_the_initial_delay(delay: int, period: int, first: int) -> None:
    assert offsets(attempts(probed(LIVENESS, initial_delay=delay, period=period), LIVENESS, 2)) == [
        first,
        first + period,
    ]


def test_readiness_is_looked_for_early_and_then_by_period() -> None:
    found = attempts(probed(READINESS, period=10), READINESS, 9)
    assert offsets(found) == [0, 0.1, 0.3, 0.7, 1.5, 3.1, 6.3, 10, 20]
    assert [attempt.counts for attempt in found] == [False] * 4 + [True] * 5


def test_startup_is_looked_for_early_and_counts_by_period() -> None:
    found = attempts(probed(STARTUP, period=2), STARTUP, 7)
    assert offsets(found) == [0, 0.1, 0.3, 0.7, 1.5, 2, 4]
    assert [attempt.counts for attempt in found] == [False] * 5 + [True] * 2


def test_early_attempts_begin_after_the_initial_delay() -> None:
    found = attempts(probed(READINESS, initial_delay=5, period=10), READINESS, 7)
    assert offsets(found) == [5, 5.1, 5.3, 5.7, 6.5, 8.1, 10]


def test_programs_are_run_less_often() -> None:
    state = Probed({READINESS: ProbeSpec({"exec": {"command": ["true"]}})}, START)
    assert offsets(attempts(state, READINESS, 6)) == [0, 0.4, 1.2, 2.8, 6, 10]


def test_readiness_is_looked_for_early_once_started() -> None:
    state = probed(STARTUP, READINESS, period=10)
    state.record(STARTUP, True, START + 12)
    assert offsets(attempts(state, READINESS, 4, now=START + 12)) == [12, 12.1, 12.3, 12.7]
    state = probed(STARTUP, LIVENESS, period=10)
    state.record(STARTUP, True, START + 12)
    assert offsets(attempts(state, LIVENESS, 2, now=START + 12)) == [20, 30]


def test_no_haste_once_ready() -> None:
    state = probed(READINESS, period=10)
    state.record(READINESS, True, START + 0.2)
    assert offsets(attempts(state, READINESS, 2, now=START + 0.2)) == [10, 20]


def test_slow_attempts_skip_points_of_the_grid() -> None:
    assert offsets(attempts(probed(LIVENESS, period=1, timeout=5), LIVENESS, 3, duration=2.5)) == [1, 4, 7]


def test_an_agent_that_comes_later_keeps_the_grid() -> None:
    state = probed(LIVENESS, READINESS, period=10, ready=True)
    assert offsets(attempts(state, LIVENESS, 2, now=START + 1234.5)) == [1240, 1250]
    assert offsets(attempts(state, READINESS, 2, now=START + 1234.5)) == [1240, 1250]
    assert offsets(attempts(probed(READINESS, period=10), READINESS, 1, now=START + 1234.5)) == [1240]


@given(
    st.sampled_from(ProbeKind),
    st.integers(0, 30),
    st.integers(1, 15),
    st.floats(0, 7),
    st.floats(0, 100),
)
def test_attempts_go_forward_and_never_stop(
    kind: ProbeKind, delay: int, period: int, duration: float, began: float
) -> None:
    state = probed(kind, initial_delay=delay, period=period)
    found = attempts(state, kind, 30, duration, START + began)
    times = [attempt.at for attempt in found]
    assert all(a < b for a, b in itertools.pairwise(times))
    assert times[0] >= max(START + delay, START + began)
    assert all(b - a <= max(period, duration) + period + delay + 0.001 for a, b in itertools.pairwise(times))
    # What counts against a container leaves it at least its initial delay.
    counted = [attempt.at for attempt in found if attempt.counts]
    assert all(at >= START + delay for at in counted)
    if kind is not READINESS:
        assert all(round((at - START) / period, 4) == round((at - START) / period) for at in counted)
