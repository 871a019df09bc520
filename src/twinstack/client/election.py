"""Leader election over a Lease: of several equal processes one works, the others stand by (client-go's rules).

A holder is dead when its lease has not changed for the lease's duration by the clock of who looks, so clocks need
not agree. A leader that cannot renew within the renew deadline stops before another one may begin.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import socket
import time
import uuid
from collections.abc import Awaitable, Callable

import msgspec

from twinstack.api import times
from twinstack.api.coordination import Lease, LeaseSpec
from twinstack.api.errors import StatusError
from twinstack.api.kinds import LEASES
from twinstack.api.meta import ObjectMeta
from twinstack.client.events import EventRecorder
from twinstack.client.process import ComponentEnded
from twinstack.client.rest import Client

log = logging.getLogger(__name__)

_JITTER = 1.2  # of the pauses of those who stand by
_RELEASE_ATTEMPTS = 5
_RELEASE_SECONDS = 2.0


class LeadershipLost(ComponentEnded):
    """The lease could not be renewed in time, or somebody else holds it."""


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """Which lease is fought for, and how patiently, in seconds."""

    name: str
    namespace: str = "kube-system"
    lease: float = 15.0
    deadline: float = 10.0
    retry: float = 2.0


def add_flags(parser: argparse.ArgumentParser, name: str) -> None:
    """kube-controller-manager's and kube-scheduler's flags; `name` is the lease's."""
    flag = parser.add_argument
    flag(
        "--leader-elect",
        type=_boolean,
        nargs="?",
        const=True,
        default=True,
        metavar="BOOL",
        help="one of several works",
    )
    flag(
        "--leader-elect-lease-duration", type=_seconds, default=15.0, metavar="DURATION", help="life of a silent leader"
    )
    flag("--leader-elect-renew-deadline", type=_seconds, default=10.0, metavar="DURATION", help="then a leader stops")
    flag("--leader-elect-retry-period", type=_seconds, default=2.0, metavar="DURATION", help="between two tries")
    flag("--leader-elect-resource-name", default=name, metavar="NAME", help="the Lease that is fought for")
    flag("--leader-elect-resource-namespace", default="kube-system", metavar="NAMESPACE")


def terms(args: argparse.Namespace) -> Terms | None:
    """None when there is no election. Raises ValueError."""
    if not args.leader_elect:
        return None
    lease, deadline = args.leader_elect_lease_duration, args.leader_elect_renew_deadline
    retry = args.leader_elect_retry_period
    if lease <= deadline:
        raise ValueError("leaseDuration must be greater than renewDeadline")
    if retry <= 0 or deadline <= _JITTER * retry:
        raise ValueError("renewDeadline must be greater than retryPeriod*JitterFactor")
    return Terms(
        name=args.leader_elect_resource_name,
        namespace=args.leader_elect_resource_namespace,
        lease=lease,
        deadline=deadline,
        retry=retry,
    )


def _seconds(text: str) -> float:
    try:
        return times.parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text.lower() == "true"


async def led(client: Client, wanted: Terms | None, component: str, work: Callable[[], Awaitable[None]]) -> None:
    """Run `work` as the leader, for as long as this process is it; without terms at once.

    Cancelled, it gives the lease back. Raises LeadershipLost, after `work` has been cancelled.
    """
    if wanted is None:
        await work()
        return
    await Candidate(client, wanted, component).run(work)


class Candidate:
    """One process that would lead."""

    def __init__(self, client: Client, wanted: Terms, component: str) -> None:
        host = socket.gethostname()
        self.identity = f"{host}_{uuid.uuid4()}"
        self._client = client
        self._terms = wanted
        self._recorder = EventRecorder(client, component, host)
        self._observed: Lease | None = None
        self._since = 0.0  # monotonic time at which the observed state was first seen
        self._stale = False  # a write has failed: the lease is read again before the next one
        self._told_holder = ""

    async def run(self, work: Callable[[], Awaitable[None]]) -> None:
        log.info("attempting to acquire leader lease %s/%s", self._terms.namespace, self._terms.name)
        while True:
            if await self._try():
                break
            await asyncio.sleep(self._terms.retry * random.uniform(1, _JITTER))
        log.info("successfully acquired lease %s/%s", self._terms.namespace, self._terms.name)
        working = asyncio.ensure_future(work())
        renewing = asyncio.ensure_future(self._keep())
        try:
            done, _ = await asyncio.wait((working, renewing), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await _ended(working, renewing)
            await self._release()
            raise
        await _ended(working, renewing)
        if working not in done:
            renewing.result()
            raise LeadershipLost(f"leader election lost: {self._terms.namespace}/{self._terms.name}")
        await self._release()
        working.result()

    async def _keep(self) -> None:
        """Renew until it fails for too long."""
        await self._tell()
        renewed = time.monotonic()
        while True:
            await asyncio.sleep(self._terms.retry)
            try:
                async with asyncio.timeout(renewed + self._terms.deadline - time.monotonic()):
                    if await self._try():
                        renewed = time.monotonic()
            except TimeoutError:
                pass
            if time.monotonic() - renewed >= self._terms.deadline or self._is_others():
                return

    async def _tell(self) -> None:
        """An event about the lease, as client-go writes it."""
        if self._observed is not None:
            self._recorder.event(self._observed, "Normal", "LeaderElection", f"{self.identity} became leader")
            await self._recorder.flush()

    async def _try(self) -> bool:
        """Take or renew the lease; false if another holds it, or nobody answers."""
        try:
            return await self._take_or_renew()
        except StatusError as error:
            if error.code != 409:  # somebody else was faster
                log.warning("error with the leader lease %s: %s", self._terms.name, error)
        except OSError as error:
            log.warning("error with the leader lease %s: %s", self._terms.name, error or type(error).__name__)
        self._stale = True
        return False

    async def _take_or_renew(self) -> bool:
        now = times.micro_now()
        if self._observed is None or self._stale or not self._is_own():
            try:
                found = await self._client.get(LEASES, self._terms.name, self._terms.namespace)
            except StatusError as error:
                if error.code != 404:
                    raise
                self._see(await self._client.create(LEASES, self._made(now)))
                return True
            self._see(found)
            if not self._is_own() and self._is_alive():
                return False
        assert self._observed is not None
        spec = self._observed.spec
        own = self._is_own()
        wanted = Lease(
            metadata=self._observed.metadata,
            spec=LeaseSpec(
                holder_identity=self.identity,
                lease_duration_seconds=int(self._terms.lease) or 1,
                acquire_time=spec.acquire_time if own else now,
                renew_time=now,
                lease_transitions=(spec.lease_transitions or 0) + (0 if own else 1),
            ),
        )
        self._see(await self._client.update(LEASES, wanted))
        return True

    def _made(self, now: str) -> Lease:
        return Lease(
            metadata=ObjectMeta(name=self._terms.name, namespace=self._terms.namespace),
            spec=LeaseSpec(
                holder_identity=self.identity,
                lease_duration_seconds=int(self._terms.lease) or 1,
                acquire_time=now,
                renew_time=now,
                lease_transitions=0,
            ),
        )

    def _see(self, lease: Lease) -> None:
        self._stale = False
        if self._observed is None or lease.metadata.resource_version != self._observed.metadata.resource_version:
            self._since = time.monotonic()
        self._observed = lease
        holder = lease.spec.holder_identity or ""
        if holder and holder != self._told_holder:
            self._told_holder = holder
            log.info("new leader of %s elected: %s", self._terms.name, "this process" if self._is_own() else holder)

    def _is_own(self) -> bool:
        return self._observed is not None and self._observed.spec.holder_identity == self.identity

    def _is_others(self) -> bool:
        return self._observed is not None and not self._is_own() and self._is_alive()

    def _is_alive(self) -> bool:
        """Whether somebody holds the lease who may still be at work."""
        if self._observed is None or not self._observed.spec.holder_identity:
            return False
        seconds = self._observed.spec.lease_duration_seconds or self._terms.lease
        return time.monotonic() < self._since + seconds

    async def _release(self) -> None:
        """Let the next one begin at once."""
        try:
            async with asyncio.timeout(_RELEASE_SECONDS):
                for _ in range(_RELEASE_ATTEMPTS):
                    if not self._is_own() or self._observed is None or await self._give_back(self._observed):
                        return
                    # A renewal that was cut off on its way has been done still.
                    self._see(await self._client.get(LEASES, self._terms.name, self._terms.namespace))
        except (StatusError, OSError) as error:  # TimeoutError is one
            log.warning("the lease %s was not given back: %s", self._terms.name, error or type(error).__name__)

    async def _give_back(self, lease: Lease) -> bool:
        """Whether the lease was still as it is known."""
        now = times.micro_now()
        free = LeaseSpec(
            holder_identity="",
            lease_duration_seconds=1,
            acquire_time=now,
            renew_time=now,
            lease_transitions=lease.spec.lease_transitions,
        )
        try:
            await self._client.update(LEASES, Lease(metadata=lease.metadata, spec=free))
        except StatusError as error:
            if error.code != 409:
                raise
            return False
        return True


async def _ended(*tasks: asyncio.Future[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
