"""One image out of a registry: its manifest for this machine, what it names, into the store. Blocks."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from twinstack.node.images import builtin, manifests, registry
from twinstack.node.images.assembly import assemble
from twinstack.node.images.credentials import Credentials
from twinstack.node.images.errors import ImageError
from twinstack.node.images.http import Client, Unreachable
from twinstack.node.images.manifests import Manifest
from twinstack.node.images.reference import Reference
from twinstack.node.images.registry import Denied, Repository, Stopped
from twinstack.node.images.store import Image, ImageStore

REPORT_EVERY = 10.0  # seconds
_INDEXES = 4  # in indexes
_HINT = "`twinstack image load FILE` brings in an archive of an image where no registry can be reached"

log = logging.getLogger(__name__)


def pull(
    store: ImageStore,
    client: Client,
    reference: Reference,
    credentials: Sequence[Credentials],
    progress: Callable[[int], None],
    stop: threading.Event,
) -> Image:
    """Ask as each of those who may know the image, in order. Raises ImageError."""
    name = reference.key
    if reference.domain == builtin.DOMAIN:
        raise ImageError(f"{name}: {builtin.DOMAIN} is no registry: its images are built in or loaded")
    failure: ImageError = ImageError("")
    for own in registry.attempts(credentials):
        try:
            return _pull(store, Repository(client, store, reference, own, progress, stop), reference)
        except Denied as error:
            failure = error
        except Stopped:
            raise
        except ImageError as error:
            failure = error
            break
    hint = f" ({_HINT})" if isinstance(failure, Unreachable) and failure.hopeless else ""
    raise ImageError(f'failed to pull and unpack image "{name}": {failure}{hint}') from failure


def _pull(store: ImageStore, repository: Repository, reference: Reference) -> Image:
    try:
        top, data = repository.resolve()
    except Denied as error:
        raise Denied(f'failed to resolve reference "{reference.key}": {error}') from None
    except Unreachable as error:
        text = f'failed to resolve reference "{reference.key}": failed to do request: {error}'
        raise Unreachable(text, hopeless=error.hopeless) from None
    except ImageError as error:
        raise ImageError(f'failed to resolve reference "{reference.key}": {error}') from None
    machine = manifests.machine_platform()
    found = _manifest(repository, data)
    digested = f"{reference.name}@{reference.digest or top}"
    with store.importing(resumed=True):
        return assemble(store, found, repository, dict.fromkeys((reference.key, digested)), machine)


def _manifest(repository: Repository, data: bytes) -> Manifest:
    """Through indexes to the manifest for this machine."""
    for _ in range(_INDEXES):
        found = manifests.document(data)
        if not manifests.is_index(found):
            return manifests.manifest(found)
        chosen = manifests.choose(found, manifests.machine_platform())
        data = repository.manifest(chosen)
    raise ImageError("the image has too many indexes in indexes")


class Log:
    """Tells the log now and then how far a pull is."""

    def __init__(self, reference: Reference) -> None:
        self._reference = reference
        self._bytes = 0
        self._told = time.monotonic()

    def __call__(self, count: int) -> None:
        self._bytes += count
        if time.monotonic() - self._told >= REPORT_EVERY:
            self._told = time.monotonic()
            log.info("pulling %s: %.1f MB so far", self._reference, self._bytes / 1e6)
