"""The events of one pod, as kubelet tells them; what lasts is told once."""

from __future__ import annotations

from typing import Protocol

from twinstack.api import core
from twinstack.api.meta import Object
from twinstack.node.runtime.base import ContainerKey


class Recorder(Protocol):
    """Where events go (client.events.EventRecorder)."""

    def event(self, obj: Object, type: str, reason: str, message: str, field_path: str = "") -> None: ...  # noqa: A002


class Reporter:
    """Of one pod."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._told: set[tuple[str, str, str]] = set()
        self._paused: set[ContainerKey] = set()  # runs whose pause has been told of

    def event(self, pod: core.Pod, kind: str, reason: str, message: str, container: str = "") -> None:
        """`container` names the one that it is about."""
        path = container_path(pod, container) if container else ""
        self._recorder.event(pod, kind, reason, message, path)

    def once(self, pod: core.Pod, kind: str, reason: str, message: str, container: str = "") -> None:
        if (reason, message, container) not in self._told:
            self._told.add((reason, message, container))
            self.event(pod, kind, reason, message, container)

    def pause(self, pod: core.Pod, run: ContainerKey) -> None:
        """That the container will be started again only after a while: once a pause, not once a look."""
        if run not in self._paused:
            self._paused.add(run)
            meta = pod.metadata
            where = f"{meta.name}_{meta.namespace}({meta.uid})"
            text = f"Back-off restarting failed container {run.name} in pod {where}"
            self.event(pod, "Warning", "BackOff", text, run.name)


def container_path(pod: core.Pod, name: str) -> str:
    """How events point at a container of a pod."""
    spec, field = pod.spec, "containers"
    for kind, listed in (("initContainers", spec.init_containers), ("ephemeralContainers", spec.ephemeral_containers)):
        if any(container.name == name for container in listed):
            field = kind
    return f"spec.{field}{{{name}}}"
