"""Pods and container runs for tests, in few words."""

from __future__ import annotations

from typing import Any

from twinstack.api.core import Container as ContainerSpec
from twinstack.api.core import Pod, PodSpec, PodStatus
from twinstack.api.meta import ObjectMeta
from twinstack.node.lifecycle import View
from twinstack.node.runtime.base import Container, ContainerKey, Phase

UID = "11111111-2222-3333-4444-555555555555"
SANDBOX = 1000.0  # when it was made
IMAGE = "twinstack.local/host"


def pod(
    *names: str,
    init: tuple[str, ...] = (),
    sidecars: tuple[str, ...] = (),
    policy: str = "Always",
    status: PodStatus | None = None,
    **spec: Any,
) -> Pod:
    """A pod with containers (`c` by default) and, in this order, sidecars and init containers."""
    inits = [ContainerSpec(name=name, image=IMAGE, restart_policy="Always") for name in sidecars]
    inits += [ContainerSpec(name=name, image=IMAGE) for name in init]
    mains = [ContainerSpec(name=name, image=IMAGE) for name in names or ("c",)]
    return Pod(
        api_version="v1",
        kind="Pod",
        metadata=ObjectMeta(name="web", namespace="default", uid=UID, generation=1),
        spec=PodSpec(containers=mains, init_containers=inits, restart_policy=policy, node_name="n1", **spec),
        status=status or PodStatus(),
    )


def run(
    name: str, attempt: int = 0, code: int | None = None, *, at: float = SANDBOX + 1, ran: float = 1.0
) -> Container:
    """A run that began at `at`: it goes on, or ended with `code` after `ran` seconds."""
    container = Container(ContainerKey(UID, name, attempt), Phase.RUNNING, IMAGE, IMAGE, created_at=at, started_at=at)
    if code is None:
        return container
    reason = "Completed" if code == 0 else "Error"
    return container._replace(phase=Phase.EXITED, finished_at=at + ran, exit_code=code, reason=reason)


def view(*runs: Container, sandbox: float = SANDBOX) -> View:
    """What there is: runs in the order given."""
    by_name: dict[str, list[Container]] = {}
    for container in runs:
        by_name.setdefault(container.key.name, []).append(container)
    return View(by_name, sandbox)
