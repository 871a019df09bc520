from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.node.building import SANDBOX, pod, run, view

from twinstack.api import times
from twinstack.api.core import EphemeralContainer, Pod, PodStatus
from twinstack.node.lifecycle import Backoff, Plan, View, grace_of, outdated, plan
from twinstack.node.probes.state import Health, ProbeKind
from twinstack.node.runtime.base import Container, Phase

NOW = SANDBOX + 100


def step(of: Pod, seen: View, backoff: Backoff | None = None, now: float = NOW) -> Plan:
    return plan(of, seen, backoff or Backoff(), now)


def started(result: Plan) -> list[tuple[str, int]]:
    return [(start.container.name, start.attempt) for start in result.start]


def test_a_new_pod_needs_a_sandbox_first() -> None:
    assert step(pod(), view(sandbox=0)) == Plan(needs_sandbox=True)
    assert started(step(pod("a", "b"), view())) == [("a", 0), ("b", 0)]


@pytest.mark.parametrize("policy", ["Always", "OnFailure", "Never"])
@pytest.mark.parametrize("code", [None, 0, 1, 137])
def test_restart_policy(policy: str, code: int | None) -> None:
    result = step(pod(policy=policy), view(run("c", code=code)))
    again = code is not None and (policy == "Always" or (policy == "OnFailure" and code != 0))
    assert started(result) == ([("c", 1)] if again else [])
    assert result.finished == (code is not None and not again)


def test_a_pod_goes_on_while_one_of_its_containers_does() -> None:
    seen = view(run("a", code=0), run("b"))
    result = step(pod("a", "b", policy="Never"), seen)
    assert not result.finished
    assert not result.start
    assert step(pod("a", "b", policy="Never"), view(run("a", code=0), run("b", code=1))).finished


@pytest.mark.parametrize("phase", ["Failed", "Succeeded"])
def test_a_pod_that_ended_never_runs_again(phase: str) -> None:
    of = pod(status=PodStatus(phase=phase))
    assert step(of, view(sandbox=0)).finished
    assert step(of, view(run("c", code=1))).finished


def test_init_containers_run_one_after_the_other() -> None:
    of = pod("c", init=("i", "j"))
    assert started(step(of, view())) == [("i", 0)]
    assert started(step(of, view(run("i")))) == []
    assert started(step(of, view(run("i", code=0)))) == [("j", 0)]
    assert started(step(of, view(run("i", code=0), run("j")))) == []
    assert started(step(of, view(run("i", code=0), run("j", code=0)))) == [("c", 0)]


@pytest.mark.parametrize(("policy", "again"), [("Always", True), ("OnFailure", True), ("Never", False)])
def test_an_init_container_that_fails(policy: str, again: bool) -> None:
    result = step(pod("c", init=("i",), policy=policy), view(run("i", code=1)))
    assert started(result) == ([("i", 1)] if again else [])
    assert result.finished is not again


def test_sidecars_stay_and_do_not_hold_up() -> None:
    of = pod("c", sidecars=("s",), init=("i",))
    assert started(step(of, view())) == [("s", 0)]
    assert started(step(of, view(run("s")))) == [("i", 0)]
    assert started(step(of, view(run("s"), run("i", code=0)))) == [("c", 0)]
    assert started(step(of, view(run("s", code=0), run("i", code=0), run("c")))) == [("s", 1)]
    done = step(pod("c", sidecars=("s",), policy="Never"), view(run("s"), run("c", code=0)))
    assert done.finished


def test_init_containers_run_again_in_a_new_sandbox() -> None:
    of = pod("c", init=("i",))
    before = SANDBOX - 50
    lost = view(run("i", code=0, at=before), run("c", code=137, at=before), sandbox=0)
    assert step(of, lost).needs_sandbox
    again = View(lost.containers, SANDBOX)
    assert started(step(of, again)) == [("i", 1)]
    both = view(run("i", code=0, at=before), run("i", 1, code=0), run("c", code=137, at=before))
    assert started(step(of, both)) == [("c", 1)]


def test_a_lost_pod_that_is_not_restarted_failed() -> None:
    assert step(pod(policy="Never"), view(run("c", code=137, at=SANDBOX - 50), sandbox=0)).finished


def test_a_deadline() -> None:
    of = pod(active_deadline_seconds=30, status=PodStatus(start_time=times.format_time(NOW - 29)))
    assert step(of, view(run("c"))).wake_at == NOW + 1
    late = step(of, view(run("c")), now=NOW + 1)
    assert late.finished
    assert late.failure is not None
    assert late.failure.reason == "DeadlineExceeded"


def crash(backoff: Backoff, attempt: int, at: float, ran: float = 1.0) -> Container:
    return run("c", attempt, code=3, at=at, ran=ran)


def test_pauses_double_up_to_five_minutes() -> None:
    backoff = Backoff()
    now = SANDBOX + 1
    pauses = []
    for attempt in range(9):
        ended = crash(backoff, attempt, now)
        result = step(pod(), view(ended), backoff, now=ended.finished_at)
        if result.start:
            pauses.append(0.0)
        else:
            assert result.wake_at is not None
            pauses.append(result.wake_at - ended.finished_at)
            assert result.waiting["c"].reason == "CrashLoopBackOff"
            assert step(pod(), view(ended), backoff, now=result.wake_at - 0.01).start == ()
        now = ended.finished_at + pauses[-1]
        assert started(step(pod(), view(ended), backoff, now=now)) == [("c", attempt + 1)]
        backoff.restarted(ended, now)
    assert pauses == [0, 10, 20, 40, 80, 160, 300, 300, 300]


def test_ten_minutes_of_running_are_forgiven() -> None:
    backoff = Backoff()
    backoff.restarted(crash(backoff, 0, SANDBOX + 1), SANDBOX + 2)
    short = crash(backoff, 1, SANDBOX + 2, ran=599)
    assert backoff.due(short) == short.finished_at + 10
    long = crash(backoff, 1, SANDBOX + 2, ran=601)
    assert backoff.due(long) == 0
    backoff.restarted(long, long.finished_at)
    assert backoff.length("c") == 10


def test_the_message_names_the_pod() -> None:
    backoff = Backoff()
    backoff.restarted(crash(backoff, 0, SANDBOX + 1), SANDBOX + 2)
    ended = crash(backoff, 1, SANDBOX + 2)
    message = step(pod(), view(ended), backoff, now=ended.finished_at).waiting["c"].message
    uid = "11111111-2222-3333-4444-555555555555"
    assert message == f"back-off 10s restarting failed container=c pod=web_default({uid})"


@pytest.mark.parametrize(("attempt", "pause"), [(0, 0.0), (1, 10.0), (2, 20.0), (6, 300.0), (5000, 300.0)])
def test_a_restarted_agent_knows_the_pause_by_the_number_of_restarts(attempt: int, pause: float) -> None:
    backoff = Backoff()
    latest = run("c", attempt)
    backoff.remember(latest)
    ended = run("c", attempt, code=1)
    assert backoff.due(ended) == (ended.finished_at + pause if pause else 0.0)


def test_a_sidecar_that_has_not_started_holds_up_what_follows() -> None:
    of = pod("c", sidecars=("s",), init=("i",))
    seen = view(run("s"))
    assert started(step(of, seen._replace(health={run("s").key: Health(started=False, ready=False)}))) == []
    assert started(step(of, seen._replace(health={run("s").key: Health(started=True, ready=False)}))) == [("i", 0)]
    assert started(step(of, seen._replace(starting=frozenset({run("s").key})))) == []


def test_a_hook_holds_back_what_follows() -> None:
    of = pod("a", "b", "c")
    of.spec.containers[1].lifecycle = {"postStart": {"exec": {"command": ["true"]}}}
    assert started(step(of, view())) == [("a", 0), ("b", 0)]
    seen = view(run("a"), run("b"))
    assert started(step(of, seen._replace(starting=frozenset({run("b").key})))) == []
    assert started(step(of, seen)) == [("c", 0)]


@pytest.mark.parametrize("policy", ["Always", "OnFailure", "Never"])
@pytest.mark.parametrize("failed", [ProbeKind.STARTUP, ProbeKind.LIVENESS])
@pytest.mark.parametrize("own", [None, 5])
def test_a_container_that_fails_a_probe_is_stopped(policy: str, failed: ProbeKind, own: int | None) -> None:
    of = pod(policy=policy, termination_grace_period_seconds=7)
    probe: dict[str, object] = {"exec": {}} | ({"terminationGracePeriodSeconds": own} if own else {})
    of.spec.containers[0].startup_probe = of.spec.containers[0].liveness_probe = probe
    health = {run("c").key: Health(started=failed is ProbeKind.LIVENESS, ready=False, failed=failed)}
    (stop,) = step(of, view(run("c"))._replace(health=health)).stop
    again = "" if policy == "Never" else ", will be restarted"
    assert stop.message == f"Container c failed {failed.lower()} probe{again}"
    assert (stop.run, stop.grace) == (run("c"), own or 7)
    # However it ends then, it is started again unless the policy is Never.
    for code in (0, 1, 137):
        result = step(of, view(run("c", code=code))._replace(health=health))
        assert result.stop == ()
        assert started(result) == ([] if policy == "Never" else [("c", 1)])
        assert result.finished == (policy == "Never")


def test_an_unready_container_goes_on() -> None:
    health = {run("c").key: Health(started=True, ready=False)}
    assert step(pod(), view(run("c"))._replace(health=health)) == Plan()


def test_the_grace_of_a_pod() -> None:
    assert grace_of(pod()) == 30
    assert grace_of(pod(termination_grace_period_seconds=0)) == 0
    assert grace_of(pod(termination_grace_period_seconds=9), {"terminationGracePeriodSeconds": 3}) == 3


@pytest.mark.parametrize("general", ["Always", "OnFailure", "Never"])
@pytest.mark.parametrize("own", [None, "Always", "OnFailure", "Never"])
@pytest.mark.parametrize("code", [0, 1, 42])
def test_a_container_may_have_a_policy_of_its_own(general: str, own: str | None, code: int) -> None:
    of = pod(policy=general)
    of.spec.containers[0].restart_policy = own
    again = (own or general) == "Always" or ((own or general) == "OnFailure" and code != 0)
    assert started(step(of, view(run("c", code=code)))) == ([("c", 1)] if again else [])
    of.spec.containers[0].restart_policy = own or "Never"
    of.spec.containers[0].restart_policy_rules = [
        {"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}},
    ]
    again = (own or "Never") == "Always" or ((own or "Never") == "OnFailure" and code != 0) or code == 42
    assert started(step(of, view(run("c", code=code)))) == ([("c", 1)] if again else [])


RUNS = st.sampled_from([None, "running", 0, 1])


@given(
    st.sampled_from(["Always", "OnFailure", "Never"]),
    st.tuples(RUNS, RUNS),
    st.tuples(RUNS, RUNS),
)
def test_nothing_that_runs_is_started_and_no_order_is_broken(
    policy: str, inits: tuple[object, object], mains: tuple[object, object]
) -> None:
    of = pod("a", "b", init=("i", "j"), policy=policy)
    runs = []
    for name, state in zip("ijab", itertools.chain(inits, mains), strict=True):
        if state == "running":
            runs.append(run(name))
        elif isinstance(state, int):
            runs.append(run(name, code=state))
    seen = view(*runs)
    result = step(of, seen)
    names = [start.container.name for start in result.start]
    running = {container.key.name for container in runs if container.phase is Phase.RUNNING}
    assert running.isdisjoint(names)
    assert len(names) == len(set(names))
    assert not (result.finished and names)
    if names and {"i", "j"} & set(names):
        assert len(names) == 1
    for start in result.start:
        latest = seen.latest(start.container.name)
        assert start.attempt == (latest.key.attempt + 1 if latest else 0)
        if latest is not None and start.container.name in "ab":
            assert policy != "Never"


def test_ephemeral_containers_run_once_and_at_once() -> None:
    of = pod("c", init=("i",))
    of.spec.ephemeral_containers = [EphemeralContainer(name="e")]
    assert started(step(of, view(run("i")))) == [("e", 0)]
    assert started(step(of, view(run("i"), run("e", code=1)))) == []
    assert started(step(of, view(run("e", code=1), run("i", at=SANDBOX + 60), sandbox=SANDBOX + 50))) == []
    of.spec.restart_policy = "Never"
    assert step(of, view(run("i", code=0), run("c", code=0), run("e"))).finished  # nobody waits for it


@pytest.mark.parametrize("policy", ["Always", "Never"])
def test_a_container_with_another_image_is_made_anew(policy: str) -> None:
    of = pod("a", "b", init=("i",), policy=policy)
    older = run("a")._replace(image="older")
    seen = view(run("i", code=0)._replace(image="older"), older, run("b"))
    (stop,) = outdated(of, seen)
    assert (stop.run, stop.message) == (older, "Container a definition changed, will be restarted")
    ended = run("a", code=137)._replace(image="older")
    seen = view(run("i", code=0), ended, run("b"))
    assert outdated(of, seen) == []
    assert started(step(of, seen)) == ([("a", 1)] if policy == "Always" else [])  # ended by itself
    backoff = Backoff()
    backoff.restarted(ended, NOW)
    replaced = seen._replace(replaced=frozenset({ended.key}))
    assert started(step(of, replaced, backoff)) == [("a", 1)]
