"""From changes to transactions: the first change is written at once, those that follow closely together.

Each family goes its own way: a table that refuses a transaction is read back and corrected, with growing
pauses, while the other family's is written as ever.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Set

from twinstack.dataplane.claims import Claims, Touched
from twinstack.dataplane.model import (
    Action,
    FrontEnd,
    HealthCheck,
    Protocol,
    ServicePortName,
    ServiceState,
    Slot,
    Surroundings,
    Target,
    Via,
)
from twinstack.dataplane.tracker import Change, Tracker
from twinstack.ip import IPFamily
from twinstack.linux.netlink import DumpInterrupted, NetlinkError
from twinstack.linux.nftables import Owned
from twinstack.proxy.conntrack import Cleaner, Job
from twinstack.proxy.health import Health
from twinstack.proxy.layout import Layout
from twinstack.proxy.metrics import ProxyMetrics
from twinstack.proxy.picture import Picture
from twinstack.proxy.writer import Changed, Writer

FIRST_RETRY, LONGEST_RETRY = 0.1, 30.0  # seconds
LOOK_INTERVAL = 1.0  # for changes by others
RECHECK_INTERVAL = 3600.0  # of everything, whether or not there is a sign of a change
SHORTEST_RECHECK = 10.0  # of a table we cannot own, when others change the rule set

_Failure = (Changed, NetlinkError, OSError, DumpInterrupted)

log = logging.getLogger(__name__)


class FamilySync:
    """One family: what is wanted, what is laid, and how the last attempt went."""

    def __init__(self, layout: Layout, writer: Writer, metrics: ProxyMetrics, health: Health) -> None:
        self.layout = layout
        self.family = layout.family
        self.claims = Claims()
        self.surroundings = Surroundings()
        self.picture: Picture | None = None  # None: to be read back
        self.checked = 0.0  # loop time when everything was last compared; 0: never
        self.uncleaned: set[Slot] = set()  # UDP front ends whose flows are to be looked at once rules are written
        self.unpublished: dict[str, HealthCheck | None] = {}  # Services whose health is another once rules are written
        self._laid_surroundings: Surroundings | None = None
        self._without_local = Counter[str](internal=0, external=0)  # by traffic policy
        self._retry_at = 0.0
        self._pause = FIRST_RETRY
        self._writer = writer
        self._metrics = metrics
        self._health = health

    @property
    def retry_at(self) -> float | None:
        """When to try again, in loop time; None when there is nothing to."""
        return self._retry_at if self.picture is None else None

    def suspect(self) -> None:
        """The table may have been changed: read it back at the next sync."""
        self.picture = None
        self._retry_at = 0.0

    def sync(self, changes: list[Change], now: float) -> bool:
        """Write the changes, or everything when the picture is lost. True when the table is as it should be."""
        self.claims.apply(changes)
        self._count_without_local(changes)
        if self.picture is None and now < self._retry_at:
            return False
        if self.picture is not None and not changes and self.surroundings == self._laid_surroundings:
            self._health.synced(self.family)
            return True
        started = time.perf_counter()
        full = self.picture is None
        try:
            if self.picture is None:
                self._converge()
                self.checked = now
            else:
                self._follow(self.picture, changes)
        except _Failure as error:
            self._failed(error, now, full)
            return False
        self._succeeded(time.perf_counter() - started, full)
        return True

    def _follow(self, picture: Picture, changes: list[Change]) -> None:
        messages = picture.follow(self.claims, Touched.by(changes))
        operations = picture.operations
        if self.surroundings != self._laid_surroundings:
            messages += picture.surround(self.surroundings)
            operations += picture.operations
        self._writer.commit(self.layout, messages)
        self._laid_surroundings = self.surroundings
        self._metrics.elements.add(operations, self.family)

    def _converge(self) -> None:
        self.picture = self._writer.converge(
            self.layout, lambda picture: picture.converge(self.claims, self.surroundings)
        )
        self._laid_surroundings = self.surroundings
        self._metrics.elements.add(self.picture.operations, self.family)

    def _count_without_local(self, changes: list[Change]) -> None:
        for change in changes:
            before, after = _without_local(change.old), _without_local(change.new)
            if before != after:
                self._without_local.subtract(policy for policy, _ in before)
                self._without_local.update(policy for policy, _ in after)
                for policy, count in self._without_local.items():
                    self._metrics.no_local.set(count, policy, self.family)

    def _failed(self, error: BaseException, now: float, full: bool) -> None:
        self.picture = None
        self._metrics.failures.add(1, self.family)
        if isinstance(error, Changed) and not full:
            log.warning("%s; laying it again", error)
            self._retry_at = now
            return
        hint = ": stop the other proxy of this node" if isinstance(error, Owned) else ""
        log.error("%s: rules not written: %s%s; again in %.1f s", self.family, error, hint, self._pause)
        self._retry_at = now + self._pause
        self._pause = min(self._pause * 2, LONGEST_RETRY)

    def _succeeded(self, seconds: float, full: bool) -> None:
        self._pause = FIRST_RETRY
        self._health.synced(self.family)
        (self._metrics.full if full else self._metrics.partial).observe(seconds, self.family)
        self._metrics.sync.observe(seconds, self.family)
        self._metrics.front_ends.set(len(self.claims), self.family)


class Synchroniser:
    """Drives all families from one tracker. `wake` it after every change."""

    def __init__(
        self,
        tracker: Tracker,
        writer: Writer,
        layouts: Iterable[Layout],
        *,
        metrics: ProxyMetrics,
        health: Health,
        cleaner: Cleaner,
        min_interval: float,
        synced: Callable[[IPFamily], None] = lambda family: None,
        publish: Callable[[IPFamily, str, HealthCheck | None], None] = lambda family, service, check: None,
    ) -> None:
        self._tracker = tracker
        self._writer = writer
        self._metrics = metrics
        self._health = health
        self._cleaner = cleaner
        self._min_interval = min_interval
        self._synced = synced
        self._publish = publish
        self.families = {layout.family: FamilySync(layout, writer, metrics, health) for layout in layouts}
        self._timer: asyncio.Handle | None = None  # for changes
        self._retry: asyncio.TimerHandle | None = None  # for families that failed
        self._last = float("-inf")  # loop time of the last sync
        self._started = False

    def start(self) -> None:
        """The cluster's state is complete: write it."""
        self._started = True
        self.wake()

    def surround(self, family: IPFamily, surroundings: Surroundings) -> None:
        """Node addresses, service ranges or pod ranges are these now."""
        if self.families[family].surroundings != surroundings:
            self.families[family].surroundings = surroundings
            self.wake()

    def wake(self) -> None:
        """Sync soon: at once when the last sync is long past."""
        if not self._started:
            return
        for family in self.families:
            self._health.queued(family)
        if self._timer is None:
            loop = asyncio.get_running_loop()
            wait = self._last + self._min_interval - loop.time()
            self._timer = loop.call_later(wait, self.sync) if wait > 0 else loop.call_soon(self.sync)

    def sync(self) -> None:
        """Write what is pending, now."""
        for timer in (self._timer, self._retry):
            if timer is not None:
                timer.cancel()
        self._timer = self._retry = None
        now = asyncio.get_running_loop().time()
        changes = defaultdict[IPFamily, list[Change]](list)
        for change in self._tracker.take():
            changes[change.family].append(change)
        for family, state in self.families.items():
            first = state.checked == 0.0
            state.uncleaned |= _slots_to_clean(changes[family])
            state.unpublished |= {c.service: c.new.health for c in changes[family] if c.old.health != c.new.health}
            if state.sync(changes[family], now):
                self._synced(family)
                self._clean_flows(state, everything=first)
                self._publish_health(state)
        self._last = asyncio.get_running_loop().time()
        self._schedule_retry()

    async def watch(self) -> None:
        """Look for changes by others once a second, and check everything once an hour; cancel to stop."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(LOOK_INTERVAL)
            try:
                self._look(loop.time())
            except OSError as error:
                log.warning("cannot look at the rule set: %s", error)

    def _look(self, now: float) -> None:
        suspects = [state for state in self.families.values() if now - state.checked > RECHECK_INTERVAL]
        generation = self._writer.look()
        if generation is not None:
            changed = [state for state in self.families.values() if self._may_have_changed(state, now)]
            suspects += changed
            if self._writer.owns_tables:
                self._writer.accept(generation)
        for state in suspects:
            state.suspect()
        if suspects:
            self.sync()

    def _may_have_changed(self, state: FamilySync, now: float) -> bool:
        """Others changed the rule set. A table that is not protected by owning it is read back now and then."""
        if state.picture is None:
            return False
        if not self._writer.is_same(state.layout):
            log.warning("%s: our table is gone or replaced; laying it again", state.family)
            self._metrics.recoveries.add(1, state.family)
            return True
        return not self._writer.owns_tables and now - state.checked > SHORTEST_RECHECK

    def _schedule_retry(self) -> None:
        due = [state.retry_at for state in self.families.values() if state.retry_at is not None]
        if due:
            loop = asyncio.get_running_loop()
            self._retry = loop.call_at(max(min(due), loop.time() + 0.001), self.sync)

    def _publish_health(self, state: FamilySync) -> None:
        checks, state.unpublished = state.unpublished, {}
        for service, check in checks.items():
            self._publish(state.family, service, check)

    def _clean_flows(self, state: FamilySync, *, everything: bool) -> None:
        """Have UDP flows looked at whose serving endpoints changed; all of them after the first sync."""
        slots, state.uncleaned = state.uncleaned, set()
        if everything:
            slots |= {front_end.slot for front_end in state.claims if front_end.slot.protocol is Protocol.UDP}
        for slot in slots:
            front_end = state.claims.get(slot)
            serving: frozenset[Target] = front_end.serving if front_end is not None else frozenset()
            self._cleaner.queue(state.family, slot, Job(serving, state.surroundings.node_ips))


_NOWHERE: Set[tuple[str, ServicePortName]] = frozenset()


def _without_local(state: ServiceState) -> Set[tuple[str, ServicePortName]]:
    """Service ports whose flows are dropped for want of an endpoint on this node, by the policy that says so."""
    dropping = [front_end for front_end in state.front_ends if front_end.action is Action.DROP]
    if not dropping:  # most often
        return _NOWHERE
    return {("internal" if each.via is Via.CLUSTER_IP else "external", each.name) for each in dropping}


def _slots_to_clean(changes: Iterable[Change]) -> set[Slot]:
    found: set[Slot] = set()
    for change in changes:
        if any(each.slot.protocol is Protocol.UDP for each in (*change.old.front_ends, *change.new.front_ends)):
            before, after = _serving(change.old.front_ends), _serving(change.new.front_ends)
            found |= {slot for slot in before.keys() | after.keys() if before.get(slot) != after.get(slot)}
    return found


def _serving(front_ends: Iterable[FrontEnd]) -> dict[Slot, frozenset[Target]]:
    return {f.slot: f.serving for f in front_ends if f.slot.protocol is Protocol.UDP}
