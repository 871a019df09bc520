"""Brings images from registries into the store: in threads, those that several ask for once.

A thread works in the network namespace that leads to the registries: a node's own has, unless somebody laid it, no way
out of the cluster.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from twinstack.linux import namespaces
from twinstack.node.images.access import Access
from twinstack.node.images.credentials import Credentials
from twinstack.node.images.errors import ImageError
from twinstack.node.images.reference import Reference, parse
from twinstack.node.images.store import Image, ImageStore

if TYPE_CHECKING:
    from twinstack.node.images.http import Client

AT_ONCE = 4  # images

_Key = tuple[str, tuple[Credentials, ...]]


class Puller:
    """Of one node. `namespace`: the path of the one to work in; None for the caller's own.

    `on_pulled` is called when an image has come.
    """

    def __init__(self, store: ImageStore, access: Access, namespace: Path | None = None) -> None:
        self._store = store
        self._access = access
        self._client: Client | None = None
        self._namespace = namespace
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._running: dict[_Key, asyncio.Task[Image]] = {}
        self._stop = threading.Event()
        self.on_pulled: Callable[[], None] = lambda: None

    def close(self) -> None:
        """End what is at work at its next byte; nobody will ask any more."""
        self._stop.set()

    async def pull(self, reference: str, credentials: Sequence[Credentials] = ()) -> Image:
        """Raises ImageError, InvalidReference. Whoever asks for one that is on its way gets the same."""
        key = parse(reference).key, tuple(credentials)
        task = self._running.get(key)
        if task is None:
            task = self._running[key] = asyncio.create_task(self._pull(parse(reference), credentials))
            task.add_done_callback(lambda task: self._ended(key, task))
        return await asyncio.shield(task)

    def _ended(self, key: _Key, task: asyncio.Task[Image]) -> None:
        del self._running[key]
        if not task.cancelled():
            task.exception()  # those who asked may all have gone

    async def _pull(self, reference: Reference, credentials: Sequence[Credentials]) -> Image:
        async with self._turns:
            loop = asyncio.get_running_loop()
            done: asyncio.Future[Image] = loop.create_future()

            def work() -> None:
                def finish(image: Image | None, error: BaseException | None) -> None:
                    if done.cancelled():
                        return
                    if image is not None:
                        done.set_result(image)
                    else:
                        done.set_exception(error or ImageError("nothing was pulled"))

                image, failure = None, None
                try:
                    if self._namespace is not None:
                        namespaces.enter(self._namespace)
                    image = self._fetch(reference, credentials)
                except Exception as error:  # noqa: BLE001 - handed to whoever waits
                    failure = error
                with contextlib.suppress(RuntimeError):  # the agent has ended meanwhile
                    loop.call_soon_threadsafe(finish, image, failure)

            # A daemon: an agent that ends does not wait for a registry. What is not finished is swept.
            threading.Thread(target=work, name="pull", daemon=True).start()
            image = await done
        self.on_pulled()
        return image

    def _fetch(self, reference: Reference, credentials: Sequence[Credentials]) -> Image:
        """What it takes is loaded when the first image is pulled."""
        from twinstack.node.images import fetching
        from twinstack.node.images.http import Client

        if self._client is None:
            self._client = Client(self._access)
        told = fetching.Log(reference)
        return fetching.pull(self._store, self._client, reference, credentials, told, self._stop)
