"""The images of one pod's containers: looked up, pulled, waited for. What is done is judged by `policy`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from twinstack.api import core
from twinstack.api.errors import StatusError
from twinstack.node.environment import Source
from twinstack.node.images import builtin, policy
from twinstack.node.images.credentials import Entry, entries, matching
from twinstack.node.images.errors import ImageError
from twinstack.node.images.policy import Failure, Step, Verdict
from twinstack.node.images.pull import Puller
from twinstack.node.images.reference import InvalidReference, parse
from twinstack.node.images.store import ImageStore
from twinstack.node.reporting import Reporter
from twinstack.node.runtime.base import ContainerKey, Runtime
from twinstack.node.sources import SourceReader


class Images(NamedTuple):
    """What the pods of a node share."""

    store: ImageStore
    puller: Puller


class PodImages:
    """`changed`: told the pod's uid when a pull has ended, so that it is looked at again."""

    def __init__(
        self,
        images: Images,
        runtime: Runtime,
        sources: SourceReader,
        reporter: Reporter,
        changed: Callable[[str], None],
    ) -> None:
        self._images = images
        self._runtime = runtime
        self._sources = sources
        self._reporter = reporter
        self._changed = changed
        self._pulls: dict[ContainerKey, asyncio.Task[None]] = {}
        self._pulled: dict[
            str, ContainerKey
        ] = {}  # the run of a container whose image has come, whatever their policy is
        self._failures: dict[str, Failure] = {}  # by image
        self._told: dict[str, float] = {}  # when the failure was that a container's pause has been told of

    def close(self) -> None:
        """Nobody waits any more. What is on its way may come for others."""
        for task in self._pulls.values():
            task.cancel()

    async def ensure(self, pod: core.Pod, container: core.Container, key: ContainerKey) -> Verdict:
        """Whether the container can start; if not, why, and when to look again. Begins a pull if one is due."""
        if self._pulled.get(key.name) == key:
            return Verdict(Step.START)
        if key in self._pulls:
            return Verdict(Step.PULL)
        image = container.image
        present, own = await self._look(image)
        failure, now = self._failures.get(image), time.time()
        verdict = policy.judge(image, container.image_pull_policy, present=present, own=own, failure=failure, now=now)
        self._tell(pod, container, verdict, failure)
        if verdict.step is Step.PULL:
            self._pulls[key] = asyncio.create_task(self._pull(pod, container, key))
        return verdict

    async def hold(self, pod: core.Pod, container: core.Container) -> None:
        """The image stays as long as the pod has anything here. Raises OSError when it has just gone."""
        if parse(container.image).key in builtin.NAMES:
            return
        path = self._runtime.volumes_directory(pod.metadata.uid).parent
        owner = f"pod {pod.metadata.namespace}/{pod.metadata.name}"
        await asyncio.to_thread(self._hold, container.image, path, owner)

    def _hold(self, reference: str, path: Path, owner: str) -> None:
        found = self._images.store.find(reference)
        if found is not None:
            self._images.store.hold(found.id, path, owner)

    async def _look(self, image: str) -> tuple[bool, bool]:
        """Whether it is here, and whether it can come from nowhere else. The first look at busybox makes it."""
        try:
            reference = parse(image)
        except InvalidReference:
            return False, False
        if reference.key == builtin.HOST:
            return self._runtime.has_image(image), True
        return await asyncio.to_thread(self._runtime.has_image, image), reference.domain == builtin.DOMAIN

    def _tell(self, pod: core.Pod, container: core.Container, verdict: Verdict, failure: Failure | None) -> None:
        """A pause once, what stays as it is once."""
        if verdict.reason == "ImagePullBackOff" and failure is not None:
            if self._told.get(container.name) == failure.at:
                return
            self._told[container.name] = failure.at
        tell = self._reporter.event
        if verdict.step is Step.WAIT and verdict.wake_at is None:
            tell = self._reporter.once
        for event in verdict.events:
            tell(pod, event.type, event.reason, event.message, container.name)

    async def _pull(self, pod: core.Pod, container: core.Container, key: ContainerKey) -> None:
        image, began = container.image, time.monotonic()
        try:
            known = await self._credentials(pod)
            found = await self._images.puller.pull(image, matching(known, parse(image)))
            took = time.monotonic() - began
            event = policy.pulled(image, took, took, found.size)
            self._reporter.event(pod, event.type, event.reason, event.message, container.name)
            self._failures.pop(image, None)
            self._pulled[key.name] = key
        except (ImageError, OSError, StatusError) as error:
            for event in policy.failed(image, str(error)):
                self._reporter.event(pod, event.type, event.reason, event.message, container.name)
            self._failures[image] = policy.next_failure(self._failures.get(image), str(error), time.time())
        finally:
            del self._pulls[key]
            self._changed(key.pod_uid)

    async def _credentials(self, pod: core.Pod) -> list[Entry]:
        """Of the Secrets that the pod names, also because its service account does. Raises StatusError, OSError."""
        found: list[Entry] = []
        missing: list[str] = []
        for name in (each.get("name") or "" for each in pod.spec.image_pull_secrets):
            data = await self._sources.read(Source("secret", name), pod.metadata.namespace) if name else None
            try:
                found += entries(data.values) if data is not None else []
            except ValueError:
                data = None
            if data is None and name:
                missing.append(name)
        if missing:
            text = f"Unable to retrieve some image pull secrets ({', '.join(missing)}); "
            text += "attempting to pull the image may not succeed."
            self._reporter.event(pod, "Warning", "FailedToRetrieveImagePullSecret", text)
        return found
