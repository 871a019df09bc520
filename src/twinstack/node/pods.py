"""The status of a pod, from what its containers do: phase, conditions, container states. Pure.

As kubelet 1.36 writes it (pkg/kubelet/kubelet_pods.go, pkg/kubelet/status/generate.go, by behaviour).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from twinstack.api import core, times
from twinstack.api.meta import Condition
from twinstack.ip import Address
from twinstack.node import mountmodes
from twinstack.node.lifecycle import TERMINAL, View, Waiting, is_initialised, is_restarted, is_sidecar
from twinstack.node.listening import verdict
from twinstack.node.listening.verdict import Finding
from twinstack.node.resizing import Resizing
from twinstack.node.runtime.base import Container, Phase, User

_RESOURCES = ("limits", "requests")
LOST = core.ContainerStateTerminated(
    exit_code=137,
    reason="ContainerStatusUnknown",
    message="The container could not be located when the pod was terminated",
)


class Situation(NamedTuple):
    """All that a pod's status follows from, besides the pod.

    `addresses` and `host_addresses` are canonical text, primary family first. `ended`: nothing of the pod runs or
    will run again. `waiting`: why containers that do not run do not, by name. `listening`: what is known of it.
    `resizing`: what of the pod's resources has not been given to it. `recursive_read_only`: what the runtime can do.
    """

    view: View
    addresses: Sequence[str]
    host_addresses: Sequence[str]
    ended: bool = False
    waiting: Mapping[str, Waiting] = {}
    failure: Waiting | None = None
    listening: Sequence[Finding] = ()
    resizing: Resizing = Resizing()
    recursive_read_only: bool = False


def host_network_ips(pod: core.Pod, node_ips: Sequence[str]) -> list[str]:
    """The addresses of a pod on the node's network: the first that was shown stays the first for good."""
    if not pod.status.pod_ip:
        return list(node_ips)
    family = Address.parse(pod.status.pod_ip).family
    return [pod.status.pod_ip, *(ip for ip in node_ips if Address.parse(ip).family is not family)]


def pod_status(pod: core.Pod, situation: Situation, now: str = "") -> core.PodStatus:
    """The status to show. `now` is a meta/v1 Time for what changes."""
    now = now or times.now()
    inits = [_container_status(pod, c, situation) for c in pod.spec.init_containers]
    mains = [_container_status(pod, c, situation) for c in pod.spec.containers]
    ephemeral = [_container_status(pod, c, situation) for c in pod.spec.ephemeral_containers]
    phase = "Failed" if situation.failure else _phase(pod, inits, mains, situation)
    if pod.status.phase in TERMINAL:
        phase = pod.status.phase  # for good
    status = core.PodStatus(
        phase=phase,
        conditions=_conditions(pod, phase, inits, mains, situation, now),
        reason=situation.failure.reason if situation.failure else pod.status.reason,
        message=situation.failure.message if situation.failure else pod.status.message,
        start_time=pod.status.start_time or now,
        init_container_statuses=inits,
        container_statuses=mains,
        ephemeral_container_statuses=ephemeral,
        resources=pod.spec.resources or {},
        allocated_resources=(pod.spec.resources or {}).get("requests") or {},
        observed_generation=pod.metadata.generation,
    )
    _set_addresses(status, pod, situation)
    return status


def _set_addresses(status: core.PodStatus, pod: core.Pod, situation: Situation) -> None:
    """Addresses once shown stay when the network is taken away from a pod that ended."""
    status.host_ips = [core.PodIP(ip=ip) for ip in situation.host_addresses] or pod.status.host_ips
    status.host_ip = status.host_ips[0].ip if status.host_ips else ""
    status.pod_ips = [core.PodIP(ip=ip) for ip in situation.addresses] or pod.status.pod_ips
    status.pod_ip = status.pod_ips[0].ip if status.pod_ips else ""


def _container_status(pod: core.Pod, container: core.Container, situation: Situation) -> core.ContainerStatus:
    runs = situation.view.containers.get(container.name, ())
    known = next((s for s in pod.all_container_statuses if s.name == container.name), None)
    status = core.ContainerStatus(name=container.name, image=container.image, started=False)
    if container.volume_mounts:
        possible = situation.recursive_read_only
        status.volume_mounts = [mountmodes.status(mount, possible=possible) for mount in container.volume_mounts]
    waiting = situation.waiting.get(container.name)
    if not runs:
        if situation.ended and known is not None and known.state.terminated is not None:
            return known  # no trace of it is left: as it was reported
        if situation.ended and _missed_its_turn(pod, container, situation.view):
            status.state = core.ContainerState(terminated=LOST)
        else:
            default = "PodInitializing" if pod.spec.init_containers else "ContainerCreating"
            status.state = _waiting(waiting or Waiting(default))
        return status
    latest, previous = runs[-1], runs[-2] if len(runs) > 1 else None
    status.restart_count = latest.key.attempt
    if latest.phase is Phase.RUNNING and latest.key in situation.view.starting:
        # Shown as running once its postStart hook is through.
        status.state = _waiting(Waiting("PodInitializing" if pod.spec.init_containers else "ContainerCreating"))
        if previous is not None:
            status.last_state = core.ContainerState(terminated=_terminated(previous))
        return status
    status.image, status.image_id = latest.image, latest.image_id
    status.container_id = _id(latest)
    held = situation.resizing.actual.get(latest.key, container.resources)
    status.resources = {kind: held[kind] for kind in _RESOURCES if held.get(kind)}
    if container.resources.get("requests"):
        status.allocated_resources = container.resources["requests"]
    if latest.user is not None:
        status.user = {"linux": _user_status(latest.user)}
    if (container.lifecycle or {}).get("stopSignal"):  # as long as the field is young, only those show it who set it
        status.stop_signal = (container.lifecycle or {})["stopSignal"]
    if previous is not None:
        status.last_state = core.ContainerState(terminated=_terminated(previous))
    if latest.phase is Phase.RUNNING:
        status.state = core.ContainerState(
            running=core.ContainerStateRunning(started_at=times.format_time(latest.started_at))
        )
        health = situation.view.health_of(latest)
        status.started = health.started
        status.ready = health.ready and not _works_once(container, pod)
    elif latest.phase is Phase.EXITED and waiting is not None:
        status.state = _waiting(waiting)
        status.last_state = core.ContainerState(terminated=_terminated(latest))
    elif latest.phase is Phase.EXITED:
        status.state = core.ContainerState(terminated=_terminated(latest))
        status.ready = _works_once(container, pod) and latest.exit_code == 0
    else:
        status.state = _waiting(waiting or Waiting("ContainerCreating"))
    return status


def _missed_its_turn(pod: core.Pod, container: core.Container, view: View) -> bool:
    """Whether a container of which there is no trace should have run: one that comes after it did, or the
    last that comes before it is done."""
    inits, mains = pod.spec.init_containers, pod.spec.containers
    for index, init in enumerate(inits):
        if init is container:
            return any(_has_begun(pod, view, other) for other in inits[index:])
    last = view.latest(inits[-1].name) if inits else None
    initialised = not inits or is_initialised(pod, view)
    initialised = initialised or (last is not None and last.phase is Phase.EXITED and last.exit_code == 0)
    return initialised or any(_has_begun(pod, view, other) for other in mains)


def _has_begun(pod: core.Pod, view: View, container: core.Container) -> bool:
    """By its runs, or by what was reported before these were forgotten."""
    known = (status for status in pod.all_container_statuses if status.name == container.name)
    return view.latest(container.name) is not None or any(
        status.state.running or status.state.terminated or status.last_state.terminated for status in known
    )


def _user_status(user: User) -> dict[str, Any]:
    return {"uid": user.user, "gid": user.group, "supplementalGroups": user.all_groups}


def _works_once(container: core.Container, pod: core.Pod) -> bool:
    """An init container, which is ready once it has done its work, while others are ready as long as they run."""
    return not is_sidecar(container) and any(container is init for init in pod.spec.init_containers)


def _waiting(waiting: Waiting) -> core.ContainerState:
    return core.ContainerState(waiting=core.ContainerStateWaiting(reason=waiting.reason, message=waiting.message))


def _terminated(run: Container) -> core.ContainerStateTerminated:
    state = core.ContainerStateTerminated(
        exit_code=run.exit_code,
        reason=run.reason,
        started_at=times.format_time(run.started_at),
        finished_at=times.format_time(run.finished_at),
        container_id=_id(run),
    )
    if run.message:
        state.message = run.message
    return state


def _id(run: Container) -> str:
    return f"twinstack://{run.key.id}"


def _phase(
    pod: core.Pod, inits: list[core.ContainerStatus], mains: list[core.ContainerStatus], situation: Situation
) -> str:
    sidecars = []
    for container, status in zip(pod.spec.init_containers, inits, strict=True):
        code = _last_exit_code(status)
        if is_sidecar(container):
            sidecars.append(status)
        elif code is not None and code != 0:
            if not _goes_on(pod, container, situation):
                return "Failed"
        elif status.state.terminated is None:
            return "Pending"
    if any(status.state.waiting and status.last_state.terminated is None for status in sidecars + mains):
        return "Pending"
    if any(status.state.running for status in sidecars + mains):
        return "Running"
    if not situation.ended and any(_goes_on(pod, container, situation) for container in pod.spec.containers):
        return "Running"  # between two runs
    return "Succeeded" if all(_last_exit_code(status) == 0 for status in mains) else "Failed"


def _goes_on(pod: core.Pod, container: core.Container, situation: Situation) -> bool:
    """Whether a container that ended will be started again."""
    latest = situation.view.latest(container.name)
    if latest is None or latest.key in situation.view.replaced:
        return latest is not None
    return is_restarted(pod, container, latest, situation.view.health_of(latest).failed)


def _last_exit_code(status: core.ContainerStatus) -> int | None:
    """Of a container that ended, or that waits to be started again."""
    if status.state.terminated is not None:
        return status.state.terminated.exit_code
    if status.state.waiting is not None and status.last_state.terminated is not None:
        return status.last_state.terminated.exit_code
    return None


def _conditions(
    pod: core.Pod,
    phase: str,
    inits: list[core.ContainerStatus],
    mains: list[core.ContainerStatus],
    situation: Situation,
    now: str,
) -> list[Condition]:
    """In kubelet's order; conditions of others are not ours to write."""
    sandbox = situation.view.sandbox_since > 0 and not situation.ended
    containers_ready = _containers_ready(pod, phase, inits, mains)
    made = [
        *situation.resizing.conditions,
        Condition(type="PodReadyToStartContainers", status=_truth(sandbox)),
        _initialized(pod, phase, inits, situation),
        _ready(pod, containers_ready),
        containers_ready,
        Condition(type="PodScheduled", status="True"),
    ]
    before = {condition.type: condition for condition in pod.status.conditions}
    if phase in TERMINAL:
        made += [_ended(kind, phase) for kind in verdict.CONDITIONS.values() if kind in before]
    else:
        made += map(verdict.condition, situation.listening)
    for condition in made:
        old = before.get(condition.type)
        unchanged = old is not None and old.status == condition.status
        condition.last_transition_time = old.last_transition_time if old is not None and unchanged else now
        condition.observed_generation = condition.observed_generation or pod.metadata.generation
    return made


def _truth(value: bool) -> str:
    return "True" if value else "False"


def _initialized(pod: core.Pod, phase: str, inits: list[core.ContainerStatus], situation: Situation) -> Condition:
    incomplete = [
        status.name
        for container, status in zip(pod.spec.init_containers, inits, strict=True)
        if not (status.started is True if is_sidecar(container) else status.ready)
    ]
    if phase == "Succeeded":
        return Condition(type="Initialized", status="True", reason="PodCompleted")
    if incomplete and not is_initialised(pod, situation.view):
        text = f"containers with incomplete status: [{' '.join(incomplete)}]"
        return Condition(type="Initialized", status="False", reason="ContainersNotInitialized", message=text)
    return Condition(type="Initialized", status="True")


def _containers_ready(
    pod: core.Pod, phase: str, inits: list[core.ContainerStatus], mains: list[core.ContainerStatus]
) -> Condition:
    if phase in TERMINAL:
        return _ended("ContainersReady", phase)
    sidecars = [s for c, s in zip(pod.spec.init_containers, inits, strict=True) if is_sidecar(c)]
    unready = [status.name for status in sidecars + mains if not status.ready]
    if unready:
        text = f"containers with unready status: [{' '.join(unready)}]"
        return Condition(type="ContainersReady", status="False", reason="ContainersNotReady", message=text)
    return Condition(type="ContainersReady", status="True")


def _ended(kind: str, phase: str) -> Condition:
    return Condition(type=kind, status="False", reason="PodCompleted" if phase == "Succeeded" else "PodFailed")


def _ready(pod: core.Pod, containers: Condition) -> Condition:
    """Ready if the containers are and every readiness gate is True (KEP-580)."""
    if containers.status != "True":
        return Condition(type="Ready", status="False", reason=containers.reason, message=containers.message)
    present = {condition.type: condition.status for condition in pod.status.conditions}
    problems = []
    for gate in pod.spec.readiness_gates:
        name = str(gate.get("conditionType", ""))
        if name not in present:
            problems.append(f'corresponding condition of pod readiness gate "{name}" does not exist.')
        elif present[name] != "True":
            problems.append(f'the status of pod readiness gate "{name}" is not "True", but {present[name]}')
    if problems:
        return Condition(type="Ready", status="False", reason="ReadinessGatesNotReady", message=", ".join(problems))
    return Condition(type="Ready", status="True")
