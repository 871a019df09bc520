"""What to do next for a pod: which sandbox and containers to start, which to stop, and what has to wait. Pure.

Init containers run one after the other, those that restart always (sidecars, KEP-753) stay, and the next one waits
until they have started; then the others start together, save that a postStart hook holds back what comes after it.
A container that ended is started again as its restartPolicy says, after a pause that doubles with each time
(kubelet's crash-loop back-off). One that failed its startup or liveness probe is stopped, and then ends like others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from twinstack.api import core
from twinstack.api.times import format_duration, parse_time
from twinstack.node.probes.state import Health, ProbeKind
from twinstack.node.runtime.base import Container, ContainerKey, Phase

FIRST_PAUSE, LONGEST_PAUSE = 10.0, 300.0  # seconds
FORGIVEN_AFTER = 2 * LONGEST_PAUSE  # of running
DEFAULT_GRACE = 30  # seconds
TERMINAL = ("Failed", "Succeeded")


class Waiting(NamedTuple):
    """Why a container does not run (v1 ContainerStateWaiting)."""

    reason: str
    message: str = ""


class View(NamedTuple):
    """What there is of a pod on this node: its containers by name, oldest first, and since when its sandbox
    stands (Unix seconds; 0: there is none).

    `health`: of runs with probes. `starting`: runs whose postStart hook is at work. `replaced`: runs that are stopped
    to be made anew, however they end.
    """

    containers: Mapping[str, Sequence[Container]]
    sandbox_since: float
    health: Mapping[ContainerKey, Health] = {}
    starting: frozenset[ContainerKey] = frozenset()
    replaced: frozenset[ContainerKey] = frozenset()

    def latest(self, name: str) -> Container | None:
        runs = self.containers.get(name, ())
        return runs[-1] if runs else None

    def latest_here(self, name: str) -> Container | None:
        """The latest run in the present sandbox: initialisation begins anew with each."""
        latest = self.latest(name)
        return latest if latest is not None and 0 < self.sandbox_since <= latest.created_at else None

    def health_of(self, run: Container) -> Health:
        return self.health.get(run.key, Health())

    def is_up(self, run: Container | None) -> bool:
        """Whether it runs, with its hook and its startup probe behind it."""
        if run is None or run.phase is not Phase.RUNNING or run.key in self.starting:
            return False
        return self.health_of(run).started


class Start(NamedTuple):
    """One container to start now."""

    container: core.Container
    attempt: int


class Stop(NamedTuple):
    """One container to stop now; `message` is for its owner. `grace`: seconds that it has."""

    container: core.Container
    run: Container
    message: str
    grace: float


class Plan(NamedTuple):
    """The next step. `finished`: nothing of this pod will run again, what still does is to be stopped.

    `failure`: reason and message of a pod that fails as a whole. `wake_at`: when to plan again at the latest.
    """

    finished: bool = False
    needs_sandbox: bool = False
    start: tuple[Start, ...] = ()
    stop: tuple[Stop, ...] = ()
    waiting: Mapping[str, Waiting] = {}
    failure: Waiting | None = None
    wake_at: float | None = None


class _Pause:
    __slots__ = ("length", "since")

    def __init__(self, length: float, since: float) -> None:
        self.length = length
        self.since = since


class Backoff:
    """How long each container of one pod waits before it is started again; times are Unix seconds."""

    def __init__(self) -> None:
        self._pauses: dict[str, _Pause] = {}

    def due(self, ended: Container) -> float:
        """When a container that ended may be started again."""
        pause = self._pauses.get(ended.key.name)
        if pause is None or ended.finished_at - pause.since > FORGIVEN_AFTER:
            return 0.0
        return ended.finished_at + pause.length

    def length(self, name: str) -> float:
        pause = self._pauses.get(name)
        return pause.length if pause is not None else 0.0

    def forget(self, name: str) -> None:
        """It did not fail: it is started again without a pause."""
        self._pauses.pop(name, None)

    def restarted(self, ended: Container, now: float) -> None:
        """Note that it is started again now: the first pause follows the second end."""
        pause = self._pauses.get(ended.key.name)
        if pause is None or ended.finished_at - pause.since > FORGIVEN_AFTER:
            self._pauses[ended.key.name] = _Pause(FIRST_PAUSE, now)
        else:
            self._pauses[ended.key.name] = _Pause(min(pause.length * 2, LONGEST_PAUSE), now)

    def remember(self, latest: Container) -> None:
        """Take up a container of an earlier agent: its number of restarts tells how long it waited."""
        if latest.key.attempt:
            length = min(FIRST_PAUSE * 2.0 ** min(latest.key.attempt - 1, 10), LONGEST_PAUSE)
            self._pauses[latest.key.name] = _Pause(length, latest.created_at)


def is_sidecar(container: core.Container) -> bool:
    """Whether an init container stays (its own restartPolicy is Always)."""
    return container.restart_policy == "Always"


def plan(pod: core.Pod, view: View, backoff: Backoff, now: float) -> Plan:
    """The next step for a pod that is not being deleted."""
    if pod.status.phase in TERMINAL:
        return Plan(finished=True)
    deadline = _deadline(pod)
    if deadline is not None and now >= deadline:
        text = "Pod was active on the node longer than the specified deadline"
        return Plan(finished=True, failure=Waiting("DeadlineExceeded", text))
    if not _has_future(pod, view):
        return Plan(finished=True)
    if not view.sandbox_since:
        return Plan(needs_sandbox=True, wake_at=deadline)
    start, waiting, times = [], {}, [deadline] if deadline is not None else []
    sidecars, others = _eligible(pod, view)
    for container in sidecars + others:
        latest = view.latest(container.name)
        if latest is None or latest.phase is Phase.CREATED:
            start.append(Start(container, latest.key.attempt if latest else 0))
            continue
        alike = view.latest_here(container.name) and latest.image == container.image
        when = backoff.due(latest) if alike else 0.0
        if when <= now:
            start.append(Start(container, latest.key.attempt + 1))
        else:
            waiting[container.name] = Waiting("CrashLoopBackOff", _loop_message(pod, container, backoff))
            times.append(when)
    stop = tuple(_unhealthy(pod, view))
    first = tuple(Start(container, 0) for container in pod.spec.ephemeral_containers if _is_new(container, view))
    return Plan(start=first + _up_to_a_hook(start, view), stop=stop, waiting=waiting, wake_at=min(times, default=None))


def _is_new(container: core.Container, view: View) -> bool:
    """Ephemeral containers run once, at once, and nothing waits for them."""
    latest = view.latest(container.name)
    return latest is None or latest.phase is Phase.CREATED


def _up_to_a_hook(start: list[Start], view: View) -> tuple[Start, ...]:
    """What can start now: while a postStart hook is at work nothing, and nothing after one that is about to be."""
    if view.starting:
        return ()
    for index, entry in enumerate(start):
        if (entry.container.lifecycle or {}).get("postStart"):
            return tuple(start[: index + 1])
    return tuple(start)


def outdated(pod: core.Pod, view: View) -> list[Stop]:
    """Running containers whose image is another one now; they are made anew whatever their restartPolicy."""
    found = []
    for container in [*filter(is_sidecar, pod.spec.init_containers), *pod.spec.containers]:
        run = view.latest_here(container.name)
        if run is not None and run.phase is Phase.RUNNING and run.image != container.image:
            message = f"Container {container.name} definition changed, will be restarted"
            found.append(Stop(container, run, message, grace_of(pod)))
    return found


def _unhealthy(pod: core.Pod, view: View) -> list[Stop]:
    """Running containers that failed their startup or liveness probe."""
    found = []
    for container in pod.spec.init_containers + pod.spec.containers:
        run = view.latest_here(container.name)
        failed = view.health_of(run).failed if run is not None and run.phase is Phase.RUNNING else None
        if run is None or failed is None:
            continue
        message = f"Container {container.name} failed {failed.lower()} probe"
        if is_restarted(pod, container, run, failed):
            message += ", will be restarted"
        probe = container.startup_probe if failed is ProbeKind.STARTUP else container.liveness_probe
        found.append(Stop(container, run, message, grace_of(pod, probe)))
    return found


def grace_of(pod: core.Pod, probe: Mapping[str, Any] | None = None) -> float:
    """Seconds that a container has to end: the probe's that failed, or else the pod's."""
    own = (probe or {}).get("terminationGracePeriodSeconds")
    general = pod.spec.termination_grace_period_seconds
    return float(own if own is not None else general if general is not None else DEFAULT_GRACE)


def _deadline(pod: core.Pod) -> float | None:
    seconds, since = pod.spec.active_deadline_seconds, pod.status.start_time
    return parse_time(since) + seconds if seconds is not None and since else None


def _has_future(pod: core.Pod, view: View) -> bool:
    """Whether something runs, or will."""
    if initialisation_failed(pod, view):
        return False
    return any(_goes_on(pod, container, view) for container in pod.spec.containers)


def initialisation_failed(pod: core.Pod, view: View) -> bool:
    """Whether an init container failed for good."""
    for container in pod.spec.init_containers:
        run = view.latest(container.name) if not is_sidecar(container) else None
        failed = run is not None and run.phase is Phase.EXITED and run.exit_code != 0
        if run is not None and failed and not is_restarted(pod, container, run):
            return True
    return False


def _goes_on(pod: core.Pod, container: core.Container, view: View) -> bool:
    latest = view.latest(container.name)
    if latest is None or latest.phase is not Phase.EXITED or latest.key in view.replaced:
        return True
    return is_restarted(pod, container, latest, view.health_of(latest).failed)


def is_restarted(pod: core.Pod, container: core.Container, run: Container, failed: ProbeKind | None = None) -> bool:
    """Whether a container whose run ended, or is about to for the probe that it failed, is started once more.

    By its own restartPolicy and its rules about exit codes (KEP-5307), or else by the pod's.
    """
    for rule in container.restart_policy_rules:
        codes = rule.get("exitCodes") or {}
        listed = run.phase is Phase.EXITED and run.exit_code in (codes.get("values") or [])
        if rule.get("action") == "Restart" and run.exit_code and listed is (codes.get("operator") == "In"):
            return True
    policy = container.restart_policy or pod.spec.restart_policy
    return policy == "Always" or (policy == "OnFailure" and (run.exit_code != 0 or failed is not None))


def is_initialised(pod: core.Pod, view: View) -> bool:
    """Whether the init containers have done their work in the present sandbox."""
    if any(view.latest_here(container.name) for container in pod.spec.containers):
        return True
    return all(_is_done(container, view) for container in pod.spec.init_containers)


def _is_done(container: core.Container, view: View) -> bool:
    latest = view.latest_here(container.name)
    if is_sidecar(container):
        return view.is_up(latest)
    return latest is not None and latest.phase is Phase.EXITED and latest.exit_code == 0


def _eligible(pod: core.Pod, view: View) -> tuple[list[core.Container], list[core.Container]]:
    """Init containers, and others, that are to run now and do not."""
    sidecars = [
        container
        for container in pod.spec.init_containers
        if is_sidecar(container) and view.latest_here(container.name) and not _runs(view, container)
    ]
    if is_initialised(pod, view):
        # A container whose run ended in an earlier sandbox is judged like one that ended in this.
        return sidecars, [c for c in pod.spec.containers if not _runs(view, c) and _goes_on(pod, c, view)]
    for container in pod.spec.init_containers:
        if _is_done(container, view):
            continue
        first = [] if _runs(view, container) or container in sidecars else [container]
        return sidecars + first, []
    return sidecars, []


def _runs(view: View, container: core.Container) -> bool:
    latest = view.latest_here(container.name)
    return latest is not None and latest.phase is Phase.RUNNING


def _loop_message(pod: core.Pod, container: core.Container, backoff: Backoff) -> str:
    meta = pod.metadata
    pause = format_duration(backoff.length(container.name))
    pod_text = f"{meta.name}_{meta.namespace}({meta.uid})"
    return f"back-off {pause} restarting failed container={container.name} pod={pod_text}"
