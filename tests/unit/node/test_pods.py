"""The status of pods: the values are those that kubelet 1.36 wrote in the same situations."""

from __future__ import annotations

import itertools

import pytest
from tests.unit.node.building import SANDBOX, pod, run, view

from twinstack.api import times
from twinstack.api.core import ContainerStatus, Pod, PodIP, PodStatus
from twinstack.api.meta import Condition
from twinstack.node.lifecycle import View, Waiting
from twinstack.node.pods import Situation, host_network_ips, pod_status
from twinstack.node.probes.state import Health

NOW = "2026-01-31T12:00:00Z"
HOST = ["172.30.0.11", "fd00:30::11"]
OWN = ["10.244.1.2", "fd00:10:244:1::2"]


def status_of(of: Pod, seen: View, **more: object) -> PodStatus:
    base = Situation(seen, OWN if seen.sandbox_since else [], HOST)
    return pod_status(of, base._replace(**more), NOW)  # type: ignore[arg-type]


def conditions(status: PodStatus) -> dict[str, tuple[str, str, str]]:
    return {condition.type: (condition.status, condition.reason, condition.message) for condition in status.conditions}


def test_a_pod_that_has_just_come() -> None:
    status = status_of(pod(), view(sandbox=0))
    assert status.phase == "Pending"
    assert status.start_time == NOW
    assert (status.host_ip, [entry.ip for entry in status.host_ips]) == (HOST[0], HOST)
    assert (status.pod_ip, status.pod_ips) == ("", [])
    assert status.observed_generation == 1
    unready = ("False", "ContainersNotReady", "containers with unready status: [c]")
    assert [condition.type for condition in status.conditions] == [
        "PodReadyToStartContainers",
        "Initialized",
        "Ready",
        "ContainersReady",
        "PodScheduled",
    ]
    assert conditions(status) == {
        "PodReadyToStartContainers": ("False", "", ""),
        "Initialized": ("True", "", ""),
        "Ready": unready,
        "ContainersReady": unready,
        "PodScheduled": ("True", "", ""),
    }
    assert all(condition.observed_generation == 1 for condition in status.conditions)
    (container,) = status.container_statuses
    assert container.state.waiting is not None
    assert container.state.waiting.reason == "ContainerCreating"
    assert (container.ready, container.started, container.restart_count, container.image_id) == (False, False, 0, "")


def test_a_running_pod() -> None:
    of = pod()
    of.status = status_of(of, view(sandbox=0))
    status = status_of(of, view(run("c")))
    assert status.phase == "Running"
    assert (status.pod_ip, [entry.ip for entry in status.pod_ips]) == (OWN[0], OWN)
    assert set(conditions(status).values()) == {("True", "", "")}
    (container,) = status.container_statuses
    assert (container.ready, container.started, container.restart_count) == (True, True, 0)
    assert container.state.running is not None
    assert container.state.running.started_at == times.format_time(SANDBOX + 1)
    assert str(container.container_id).startswith("twinstack://")
    assert len(str(container.container_id)) == len("twinstack://") + 64


def test_transition_times_stay_with_the_status() -> None:
    of = pod()
    of.status = PodStatus(
        start_time="2026-01-01T00:00:00Z",
        conditions=[
            Condition(type="PodScheduled", status="True", last_transition_time="2026-01-01T00:00:00Z"),
            Condition(type="Ready", status="False", last_transition_time="2026-01-02T00:00:00Z"),
        ],
    )
    status = status_of(of, view(run("c")))
    at = {condition.type: condition.last_transition_time for condition in status.conditions}
    assert (at["PodScheduled"], at["Ready"]) == ("2026-01-01T00:00:00Z", NOW)
    assert status.start_time == "2026-01-01T00:00:00Z"


def test_a_pod_that_has_done_its_work() -> None:
    status = status_of(pod(policy="Never"), view(run("c", code=0)), ended=True)
    assert status.phase == "Succeeded"
    assert conditions(status) == {
        "PodReadyToStartContainers": ("False", "", ""),
        "Initialized": ("True", "PodCompleted", ""),
        "Ready": ("False", "PodCompleted", ""),
        "ContainersReady": ("False", "PodCompleted", ""),
        "PodScheduled": ("True", "", ""),
    }
    terminated = status.container_statuses[0].state.terminated
    assert terminated is not None
    assert (terminated.exit_code, terminated.reason) == (0, "Completed")
    assert terminated.started_at == times.format_time(SANDBOX + 1)
    assert terminated.finished_at == times.format_time(SANDBOX + 2)


def test_addresses_outlive_the_network() -> None:
    of = pod(policy="Never", status=PodStatus(pod_ip=OWN[0], pod_ips=[PodIP(ip=ip) for ip in OWN]))
    status = status_of(of, view(run("c", code=0), sandbox=0), ended=True)
    assert (status.pod_ip, [entry.ip for entry in status.pod_ips]) == (OWN[0], OWN)


@pytest.mark.parametrize(
    ("shown", "node", "expected"),
    [
        ([], HOST, HOST),
        ([HOST[0]], HOST, HOST),  # the node gained a family
        ([HOST[1]], HOST, HOST[::-1]),
        (HOST, HOST[::-1], HOST),  # its families changed places
        (HOST, HOST[:1], HOST[:1]),
        (["172.30.0.9"], HOST, ["172.30.0.9", HOST[1]]),
    ],
)
def test_addresses_on_the_nodes_network(shown: list[str], node: list[str], expected: list[str]) -> None:
    of = pod(host_network=True)
    of.status.pod_ip, of.status.pod_ips = shown[0] if shown else "", [PodIP(ip=ip) for ip in shown]
    assert host_network_ips(of, node) == expected


def test_a_crash_loop() -> None:
    waiting = {"c": Waiting("CrashLoopBackOff", "back-off 10s restarting failed container=c")}
    status = status_of(pod(), view(run("c", 0, code=3), run("c", 1, code=4)), waiting=waiting)
    assert status.phase == "Running"
    (container,) = status.container_statuses
    assert container.state.waiting is not None
    assert container.state.waiting.reason == "CrashLoopBackOff"
    assert container.last_state.terminated is not None
    assert (container.last_state.terminated.exit_code, container.last_state.terminated.reason) == (4, "Error")
    assert (container.restart_count, container.ready, container.started) == (1, False, False)
    assert conditions(status)["Ready"] == ("False", "ContainersNotReady", "containers with unready status: [c]")


def test_the_last_run_is_shown_beside_the_present_one() -> None:
    container = status_of(pod(), view(run("c", 0, code=3), run("c", 1))).container_statuses[0]
    assert container.state.running is not None
    assert container.last_state.terminated is not None
    assert container.last_state.terminated.exit_code == 3
    assert container.restart_count == 1


def test_an_image_that_is_not_here() -> None:
    status = status_of(pod(), view(), waiting={"c": Waiting("ErrImageNeverPull", "no such image")})
    assert status.phase == "Pending"
    state = status.container_statuses[0].state.waiting
    assert state is not None
    assert (state.reason, state.message) == ("ErrImageNeverPull", "no such image")
    assert conditions(status)["PodReadyToStartContainers"][0] == "True"


def test_init_containers() -> None:
    of = pod("c", init=("i", "j"))
    status = status_of(of, view(run("i")))
    assert status.phase == "Pending"
    expected = ("False", "ContainersNotInitialized", "containers with incomplete status: [i j]")
    assert conditions(status)["Initialized"] == expected
    first, second = status.init_container_statuses
    assert first.state.running is not None
    assert first.started is True
    assert first.ready is False
    assert second.state.waiting is not None
    assert second.state.waiting.reason == "PodInitializing"
    main = status.container_statuses[0].state.waiting
    assert main is not None
    assert main.reason == "PodInitializing"

    status = status_of(of, view(run("i", code=0), run("j")))
    assert conditions(status)["Initialized"][2] == "containers with incomplete status: [j]"
    assert status.init_container_statuses[0].ready is True

    status = status_of(of, view(run("i", code=0), run("j", code=0), run("c")))
    assert status.phase == "Running"
    assert conditions(status)["Initialized"] == ("True", "", "")


@pytest.mark.parametrize(("policy", "phase"), [("Never", "Failed"), ("OnFailure", "Pending"), ("Always", "Pending")])
def test_an_init_container_that_failed(policy: str, phase: str) -> None:
    of = pod("c", init=("i",), policy=policy)
    assert status_of(of, view(run("i", code=1)), ended=policy == "Never").phase == phase


def test_sidecars_count_for_readiness() -> None:
    of = pod("c", sidecars=("s",))
    status = status_of(of, view(run("s"), run("c")))
    assert status.phase == "Running"
    assert conditions(status)["Ready"] == ("True", "", "")
    status = status_of(of, view(run("s", code=1), run("c")))
    assert conditions(status)["ContainersReady"][2] == "containers with unready status: [s]"
    assert status_of(of, view()).phase == "Pending"


@pytest.mark.parametrize("health", [Health(False, False), Health(True, False), Health(True, True)])
def test_health_is_shown(health: Health) -> None:
    status = status_of(pod(), view(run("c"))._replace(health={run("c").key: health}))
    assert status.phase == "Running"
    (container,) = status.container_statuses
    assert (container.started, container.ready) == (health.started, health.ready)
    assert conditions(status)["Ready"][0] == str(health.ready)


def test_a_sidecar_that_has_not_started() -> None:
    of = pod("c", sidecars=("s", "t"))
    status = status_of(of, view(run("s"))._replace(health={run("s").key: Health(False, False)}))
    assert status.phase == "Pending"
    assert conditions(status)["Initialized"][2] == "containers with incomplete status: [s t]"


def test_a_container_runs_once_its_hook_is_through() -> None:
    seen = view(run("c", 0, code=1), run("c", 1))._replace(starting=frozenset({run("c", 1).key}))
    status = status_of(pod(), seen)
    (container,) = status.container_statuses
    assert container.state.waiting is not None
    assert container.state.waiting.reason == "ContainerCreating"
    assert container.last_state.terminated is not None
    assert (container.restart_count, container.ready, container.started) == (1, False, False)
    assert status_of(pod(), view(run("c"))._replace(starting=frozenset({run("c").key}))).phase == "Pending"


def test_a_pod_goes_on_while_a_container_has_a_policy_of_its_own() -> None:
    of = pod("a", "b", policy="Never")
    of.spec.containers[0].restart_policy = "Always"
    assert status_of(of, view(run("a", code=0), run("b", code=0))).phase == "Running"
    assert status_of(of, view(run("a", code=0), run("b", code=0)), ended=True).phase == "Succeeded"


def test_readiness_gates() -> None:
    of = pod(readiness_gates=[{"conditionType": "example.com/a"}, {"conditionType": "example.com/b"}])
    of.status.conditions = [Condition(type="example.com/b", status="False")]
    found = conditions(status_of(of, view(run("c"))))
    assert found["ContainersReady"] == ("True", "", "")
    assert found["Ready"] == (
        "False",
        "ReadinessGatesNotReady",
        (
            'corresponding condition of pod readiness gate "example.com/a" does not exist., '
            'the status of pod readiness gate "example.com/b" is not "True", but False'
        ),
    )
    of.status.conditions = [Condition(type=f"example.com/{gate}", status="True") for gate in "ab"]
    assert conditions(status_of(of, view(run("c"))))["Ready"][0] == "True"


def test_a_deadline_fails_the_pod() -> None:
    status = status_of(pod(), view(run("c")), failure=Waiting("DeadlineExceeded", "too long"))
    assert (status.phase, status.reason, status.message) == ("Failed", "DeadlineExceeded", "too long")
    assert conditions(status)["Ready"] == ("False", "PodFailed", "")


def test_a_deleted_pod_that_never_ran() -> None:
    status = status_of(pod(), view(sandbox=0), ended=True)
    assert status.phase == "Failed"
    terminated = status.container_statuses[0].state.terminated
    assert terminated is not None
    assert (terminated.exit_code, terminated.reason) == (137, "ContainerStatusUnknown")
    assert terminated.message == "The container could not be located when the pod was terminated"


def test_an_ended_pod_is_shown_as_it_was_when_no_trace_of_it_is_left() -> None:
    of = pod(policy="Never")
    of.status = status_of(of, view(run("c", code=0)), ended=True)
    assert status_of(of, view(sandbox=0), ended=True) == of.status


@pytest.mark.parametrize("phase", ["Failed", "Succeeded"])
def test_an_end_is_for_good(phase: str) -> None:
    assert status_of(pod(status=PodStatus(phase=phase)), view(run("c"))).phase == phase


def phase_by_the_book(policy: str, states: list[object], ended: bool) -> str:
    """v1 PodPhase in the words of its documentation."""
    if None in states:
        return "Failed" if ended else "Pending"
    if "running" in states:
        return "Running"
    good = all(state == 0 for state in states)
    will_go_on = policy == "Always" or (policy == "OnFailure" and not good)
    if will_go_on and not ended:
        return "Running"
    return "Succeeded" if good else "Failed"


@pytest.mark.parametrize("policy", ["Always", "OnFailure", "Never"])
@pytest.mark.parametrize("ended", [False, True])
def test_every_phase(policy: str, ended: bool) -> None:
    for states in itertools.product([None, "running", 0, 1], repeat=3):
        if ended and "running" in states:
            continue
        runs = [
            run(name, code=state if isinstance(state, int) else None)
            for name, state in zip("abc", states, strict=True)
            if state is not None
        ]
        status = status_of(pod("a", "b", "c", policy=policy), view(*runs), ended=ended)
        assert status.phase == phase_by_the_book(policy, list(states), ended), states
        ready = not ended and all(state == "running" for state in states)
        assert conditions(status)["Ready"][0] == str(ready), states


def test_statuses_name_every_container_once() -> None:
    status = status_of(pod("a", "b", init=("i",)), view())
    names = [entry.name for entry in status.init_container_statuses + status.container_statuses]
    assert names == ["i", "a", "b"]
    assert isinstance(status.container_statuses[0], ContainerStatus)


def test_what_never_had_its_turn_is_not_lost() -> None:
    of = pod("c", init=("i", "j", "k"), policy="Never")
    ended = status_of(of, view(run("i", code=0), run("j", code=1)), ended=True)
    assert ended.phase == "Failed"
    third, main = ended.init_container_statuses[2], ended.container_statuses[0]
    assert [status.state.waiting and status.state.waiting.reason for status in (third, main)] == ["PodInitializing"] * 2
    lost = status_of(of, view(run("i", code=0), run("k", code=0)), ended=True)
    states = [lost.init_container_statuses[1].state.terminated, lost.container_statuses[0].state.terminated]
    assert [state and state.reason for state in states] == ["ContainerStatusUnknown"] * 2
