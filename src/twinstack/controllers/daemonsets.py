"""Keeps one Pod of every DaemonSet on each node that it is for (apps/v1)."""

from __future__ import annotations

import time

from twinstack.api.apps import DaemonSet
from twinstack.api.core import Node, Pod
from twinstack.api.errors import StatusError
from twinstack.api.kinds import DAEMON_SETS, NODES
from twinstack.api.selectors import LabelSelector
from twinstack.client.workqueue import WorkQueue
from twinstack.controllers import daemonplan
from twinstack.controllers.context import Context, synced
from twinstack.controllers.daemonplan import Plan, Standing
from twinstack.controllers.daemonpods import HASH_LABEL, node_of, pod_body
from twinstack.controllers.ownedpods import OwnedPods
from twinstack.controllers.revisions import Revisions
from twinstack.controllers.statuswriting import write_status

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 900.0  # seconds between failed Pods on one node
UNCERTAIN_DELAY = 1.0  # seconds after a deed without an answer: the watch may show that it was done


class DaemonSetController:
    """First every node has what it should, then what is there is brought up to date."""

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._events = context.recorder("daemonset-controller")
        self._queue = WorkQueue("daemonsets")
        self._sets = context.informers.of(DAEMON_SETS)
        self._nodes = context.informers.of(NODES)
        self._pods = OwnedPods(context, self._sets, self._events, _selector)
        self._revisions: Revisions[DaemonSet] = Revisions(context, self._sets, HASH_LABEL)
        self._pauses: dict[tuple[str, str], tuple[float, float]] = {}  # uid and node → pause, and until when

    async def run(self) -> None:
        await synced(self._nodes, self._revisions.informer)
        await self._pods.synced()
        self._sets.subscribe(self._set_changed)
        self._nodes.subscribe(self._node_changed)
        self._pods.subscribe(self._queue.add)
        self._revisions.subscribe(self._queue.add)
        await self._queue.run(self._sync, workers=2)

    def _set_changed(self, old: DaemonSet | None, new: DaemonSet | None) -> None:
        if new is not None:
            self._queue.add(new.key)
        elif old is not None:
            for known in [one for one in self._pauses if one[0] == old.metadata.uid]:
                del self._pauses[known]

    def _node_changed(self, old: Node | None, new: Node | None) -> None:
        if old is not None and new is not None and _place(old) == _place(new):
            return
        for key in self._sets.objects:
            self._queue.add(key)

    async def _sync(self, key: str) -> None:
        owner = self._sets.objects.get(key)
        if owner is None or owner.metadata.deletion_timestamp is not None:
            return
        selector = _selector(owner)
        if not selector.requirements:
            self._events.event(owner, "Warning", "SelectingAll", _SELECTS_ALL)
            return
        await self._pods.claim(owner)
        await self._revisions.claim(owner, selector)
        revision, collisions = await self._revisions.current(owner)
        revision_hash = self._revisions.hash_of(revision)
        failure: Exception | None = None
        try:
            await self._advance(owner, revision_hash)
        except (StatusError, OSError) as error:
            failure = error
        await self._report(owner, revision_hash, collisions)
        if isinstance(failure, StatusError):
            raise failure
        if failure is not None:
            self._queue.add(key, delay=UNCERTAIN_DELAY)
            return
        used = {pod.metadata.labels.get(HASH_LABEL, "") for pod in self._pods.of(owner)}
        await self._revisions.truncate(owner, used | {revision_hash})

    def _standings(self, owner: DaemonSet) -> dict[str, Standing]:
        pods = self._pods.of(owner)
        doomed = {pod.metadata.uid for pod in pods if self._pods.is_doomed(pod)}
        return daemonplan.standings(owner, self._nodes.objects.values(), pods, doomed)

    async def _advance(self, owner: DaemonSet, revision_hash: str) -> None:
        step = daemonplan.settled(owner, self._standings(owner), revision_hash, time.time())
        step.delete += self._ended(owner, step)
        await self._take(owner, step, revision_hash)
        await self._take(
            owner, daemonplan.rolled(owner, self._standings(owner), revision_hash, time.time()), revision_hash
        )

    async def _take(self, owner: DaemonSet, step: Plan, revision_hash: str) -> None:
        await self._pods.delete(owner, step.delete)
        await self._pods.create(owner, [pod_body(owner, node, revision_hash) for node in step.create])

    def _ended(self, owner: DaemonSet, step: Plan) -> list[Pod]:
        """Pods that have ended and go now; a node on which they fail again and again has to wait."""
        gone, now = [], time.time()
        for pod in step.failed:
            place = (owner.metadata.uid, node_of(pod))
            pause, until = self._pauses.get(place, (0.0, 0.0))
            if now < until:
                self._queue.add(owner.key, delay=until - now)
                continue
            pause = FIRST_PAUSE if now > until + 2 * LONGEST_PAUSE else min(max(2 * pause, FIRST_PAUSE), LONGEST_PAUSE)
            self._pauses[place] = pause, now + pause
            message = f"Found failed daemon pod {pod.key} on node {place[1]}, will try to kill it"
            self._events.event(owner, "Warning", "FailedDaemonPod", message)
            gone.append(pod)
        for pod in step.succeeded:
            message = f"Found succeeded daemon pod {pod.key} on node {node_of(pod)}, will try to delete it"
            self._events.event(owner, "Normal", "SucceededDaemonPod", message)
            gone.append(pod)
        return gone

    async def _report(self, owner: DaemonSet, revision_hash: str, collisions: int) -> None:
        now, found = time.time(), self._standings(owner)
        status = daemonplan.status_of(owner, found, revision_hash, collisions, now)
        if status != owner.status:
            await write_status(self._client, self._sets, owner, status)
        wait = daemonplan.next_available(owner, found, now)
        if wait is not None:
            self._queue.add(owner.key, delay=wait)


_SELECTS_ALL = "This daemon set is selecting all pods. A non-empty selector is required."


def _selector(owner: DaemonSet) -> LabelSelector:
    return LabelSelector.from_object(owner.spec.selector)


def _place(node: Node) -> object:
    """What of a node decides who runs there."""
    return node.metadata.uid, node.metadata.labels, node.spec.taints
