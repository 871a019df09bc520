"""A queue of keys to reconcile: each at most once at a time, failures again with growing pauses."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable

from twinstack.api.errors import StatusError

FIRST_PAUSE = 0.01  # seconds before the first repetition
LONGEST_PAUSE = 60.0
PASSING = 6  # failures to reach the server before it is worth a warning
LONGEST_UNREACHED = 1.0  # the server is away: everything waits for its return

log = logging.getLogger(__name__)


class NotYet(Exception):
    """Raised by work that cannot succeed for now: a warning, and another try later."""


class WorkQueue:
    """Keys wait here, not changes: whoever works on a key reads its newest state.

    A key added while it is worked on is worked on once more afterwards. Everything happens in one event loop.
    """

    def __init__(self, name: str = "") -> None:
        self.name = name
        self._ready: deque[str] = deque()
        self._waiting: set[str] = set()  # in _ready, or to be put there after the work under way
        self._running: dict[str, asyncio.Task[None]] = {}
        self._delayed: dict[str, asyncio.TimerHandle] = {}
        self._failures: dict[str, int] = {}
        self._wake = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, key: str, *, delay: float = 0.0) -> None:
        """Work on `key` soon, or after `delay` seconds unless an earlier time is already set."""
        if delay > 0:
            self._add_later(key, delay)
            return
        timer = self._delayed.pop(key, None)
        if timer is not None:
            timer.cancel()
        if key in self._waiting:
            return
        self._waiting.add(key)
        if key not in self._running:
            self._ready.append(key)
            self._wake.set()

    async def run(self, work: Callable[[str], Awaitable[None]], *, workers: int = 4) -> None:
        """Work on keys for ever, on at most `workers` at once; cancel to stop."""
        try:
            while True:
                while self._ready and len(self._running) < workers:
                    key = self._ready.popleft()
                    self._waiting.discard(key)
                    self._running[key] = asyncio.create_task(self._attempt(work, key), name=f"{self.name} {key}")
                self._wake.clear()
                await self._wake.wait()
        finally:
            for timer in self._delayed.values():
                timer.cancel()
            tasks = list(self._running.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _attempt(self, work: Callable[[str], Awaitable[None]], key: str) -> None:
        try:
            await work(key)
            self._failures.pop(key, None)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 (told in _tell, all of it)
            pause = self._pause(key, error)
            self._tell(key, error, pause)
            self.add(key, delay=pause)
        finally:
            del self._running[key]
            if key in self._waiting:
                self._ready.append(key)
            self._wake.set()

    def _tell(self, key: str, error: Exception, pause: float) -> None:
        if not isinstance(error, (StatusError, OSError, NotYet)):
            log.error("%s %s failed; again in %.2f s", self.name, key, pause, exc_info=error)
            return
        # A conflict's newer state is on its way; a server that is away for a moment will be back.
        passing = self._failures[key] < PASSING if isinstance(error, OSError) else _is_conflict(error)
        level = logging.DEBUG if passing else logging.WARNING
        log.log(level, "%s %s: %s; again in %.2f s", self.name, key, str(error) or type(error).__name__, pause)

    def _pause(self, key: str, error: Exception) -> float:
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        longest = LONGEST_UNREACHED if isinstance(error, OSError) else LONGEST_PAUSE
        return min(FIRST_PAUSE * 2.0 ** min(failures - 1, 30), longest) * random.uniform(1.0, 1.2)

    def _add_later(self, key: str, delay: float) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + delay
        timer = self._delayed.get(key)
        if timer is not None:
            if timer.when() <= due:
                return
            timer.cancel()
        self._delayed[key] = loop.call_later(delay, self._due, key)

    def _due(self, key: str) -> None:
        self._delayed.pop(key, None)
        self.add(key)


def _is_conflict(error: Exception) -> bool:
    return isinstance(error, StatusError) and error.reason == "Conflict"
