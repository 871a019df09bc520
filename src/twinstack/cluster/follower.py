"""The part that watches the configuration object; see `rollout` for what it does about it."""

from __future__ import annotations

import asyncio
import logging

from twinstack.api.core import ConfigMap
from twinstack.api.errors import StatusError
from twinstack.api.kinds import CONFIG_MAPS
from twinstack.client.events import EventRecorder
from twinstack.client.informer import Informer
from twinstack.client.rest import Client
from twinstack.cluster import changes, kubeadm, rollout
from twinstack.cluster.errors import ClusterError
from twinstack.cluster.outcome import DONE, REFUSED, ROLLING, Outcome
from twinstack.cluster.state import ClusterPaths

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds before what failed is tried again

log = logging.getLogger(__name__)


class Follower:
    """One cluster. `run` until cancelled."""

    def __init__(self, client: Client, own: ClusterPaths) -> None:
        self._client = client
        self._own = own
        self._events = EventRecorder(client, "twinstack-supervisor")
        self._objects = Informer(
            client, CONFIG_MAPS, namespace=kubeadm.NAMESPACE, field_selector=f"metadata.name={kubeadm.NAME}"
        )
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """For ever; cancel to stop."""
        self._objects.subscribe(lambda old, new: self._wake.set())
        async with asyncio.TaskGroup() as tasks:
            for work in (self._objects.run(), self._events.run(), self._follow()):
                tasks.create_task(work)

    async def _follow(self) -> None:
        await self._objects.synced()
        pause = FIRST_PAUSE
        while True:
            self._wake.clear()
            try:
                await self._look()
                pause = FIRST_PAUSE
                await self._wake.wait()
            except (StatusError, OSError) as error:
                log.warning("%s; again in %.1f s", error or type(error).__name__, pause)
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)

    async def _look(self) -> None:
        found = self._objects.objects.get(f"{kubeadm.NAMESPACE}/{kubeadm.NAME}")
        current = self._own.required()
        if found is None:
            await rollout.publish(self._client, current)
            return
        version = found.metadata.resource_version
        last = Outcome.load(self._own)
        try:
            wanted, without_effect = rollout.decide(found, current)
        except ClusterError as error:
            self._refuse(found, str(error))
            return
        if without_effect and version != last.version:
            self._tell(found, "Warning", "WithoutEffect", f"not acted on: {', '.join(without_effect)}")
        differences = changes.differences(current, wanted)
        if not differences and last.state != ROLLING:
            if version != last.version:
                Outcome(DONE, "", version).save(self._own)
            return
        self._tell(found, "Normal", "Rolling", "; ".join(differences) or "finishing what was begun")
        Outcome(ROLLING, "; ".join(differences), version).save(self._own)
        await rollout.roll(self._client, self._own, wanted)
        Outcome(DONE, " ".join(changes.consequences(current, wanted)), version).save(self._own)
        self._tell(found, "Normal", "Rolled", "every part runs with this configuration")

    def _refuse(self, found: ConfigMap, message: str) -> None:
        outcome = Outcome(REFUSED, message, found.metadata.resource_version)
        if Outcome.load(self._own) != outcome:
            self._tell(found, "Warning", "Refused", message)
            outcome.save(self._own)

    def _tell(self, found: ConfigMap, kind: str, reason: str, message: str) -> None:
        log.log(logging.WARNING if kind == "Warning" else logging.INFO, "%s: %s", reason, message)
        self._events.event(found, kind, reason, message)
