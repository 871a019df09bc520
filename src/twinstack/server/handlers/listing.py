"""The state that a list shows: which revision, which page, which objects (KEP-365, KEP-2340, KEP-4988)."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

import msgspec

from twinstack.api import jsontext
from twinstack.api.errors import StatusError, bad_request, expired
from twinstack.server.options import ListOptions
from twinstack.server.selection import Selection
from twinstack.server.versions import Version
from twinstack.server.watchcache import Collection, WatchCache

JSON = dict[str, Any]

FRESHNESS_SECONDS = 3.0  # how long a request waits for a revision that is not there yet
_TOKEN_FORMAT = "meta.k8s.io/v1"
_TOO_OLD = "The resourceVersion for the provided list is too old."
_CONTINUE_TOO_OLD = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list "
    "without the continue parameter, or use the continue token in this response to retrieve the remainder of the "
    "results. Continuing with the provided token results in an inconsistent list - objects that were created, "
    "modified, or deleted between the time the first chunk was returned and now may show up in the list."
)


class Page(NamedTuple):
    """The selected objects of a list, or of one page of it, and the ListMeta that says so."""

    versions: list[Version]
    metadata: JSON


class _Token(msgspec.Struct):
    """What `metadata.continue` holds. `start` follows the last key shown; revision -1 means the present state."""

    v: str = ""
    rv: int = 0
    start: str = ""


class _Start(NamedTuple):
    revision: int | None  # exactly this one; None: the present state
    after: str  # storage key


async def wait_for(cache: WatchCache, revision: int | None) -> None:
    """Wait for a state not older than `revision`. Raises StatusError 504."""
    if revision is None or await cache.reach(revision, FRESHNESS_SECONDS):
        return
    raise StatusError(
        504,
        "Timeout",
        f"Timeout: Too large resource version: {revision}, current: {cache.revision}",
        details={"causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]},
        retry_after=1,
    )


async def page(cache: WatchCache, collection: Collection, selection: Selection, options: ListOptions) -> Page:
    """Raises StatusError 400, 410, 504."""
    start = _start(collection, options)
    if start.revision is None:
        await wait_for(cache, options.resource_version)
        revision = cache.revision
        found: Iterable[Version] | None = collection.versions(selection.prefix, start.after)
    else:
        await wait_for(cache, start.revision)
        revision = start.revision
        found = collection.versions_at(revision, selection.prefix, start.after)
    if found is None:
        raise _gone(options, start, cache.revision, collection)
    limit = 0 if options.resource_version == 0 and not options.match else max(options.limit, 0)
    return _cut(found, selection, collection, revision, limit)


def _start(collection: Collection, options: ListOptions) -> _Start:
    wanted = options.resource_version
    if options.continue_token:
        token = _read_token(options.continue_token)
        if wanted:
            raise bad_request("specifying resource version is not allowed when using continue")
        after = collection.prefix + token.start.removesuffix("\0")
        return _Start(None if token.rv == -1 else token.rv, after)
    exact = options.match == "Exact" or (not options.match and options.limit > 0)
    return _Start(wanted if wanted and exact else None, "")


def _cut(found: Iterable[Version], selection: Selection, collection: Collection, revision: int, limit: int) -> Page:
    """A full page has a continuation when anything is left to look at, whether it will be selected or not."""
    metadata: JSON = {"resourceVersion": str(revision)}
    looked_at = iter(found)
    admitted: Iterator[Version] = looked_at if selection.everything else filter(selection.admits, looked_at)
    if not limit:
        return Page(list(admitted), metadata)
    versions = list(islice(admitted, limit))
    if len(versions) == limit and next(looked_at, None) is not None:
        start = versions[-1].key.removeprefix(collection.prefix) + "\0"
        metadata["continue"] = _write_token(_Token(_TOKEN_FORMAT, revision, start))
        if selection.everything:
            metadata["remainingItemCount"] = 1 + sum(1 for _ in looked_at)
    return Page(versions, metadata)


def _gone(options: ListOptions, start: _Start, revision: int, collection: Collection) -> StatusError:
    if not options.continue_token:
        return expired(_TOO_OLD)
    error = expired(_CONTINUE_TOO_OLD)
    key = start.after.removeprefix(collection.prefix) + "\0"
    error.metadata = {"continue": _write_token(_Token(_TOKEN_FORMAT, -1, key)), "resourceVersion": str(revision)}
    return error


def _write_token(token: _Token) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(token)).decode().rstrip("=")


def _read_token(text: str) -> _Token:
    wrong = _illegal_base64(text)
    if wrong is not None:
        raise _bad_token(f"illegal base64 data at input byte {wrong}")
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    try:
        token = msgspec.convert(jsontext.decode(raw), _Token)
    except (jsontext.JSONSyntaxError, msgspec.ValidationError) as error:
        raise _bad_token(str(error)) from error
    if token.v != _TOKEN_FORMAT:
        raise _bad_token(f"server does not recognize this encoded version {token.v}")
    if token.rv == 0:
        raise _bad_token("incorrect encoded start resourceVersion (version meta.k8s.io/v1)")
    if not token.start:
        raise _bad_token("encoded start key empty (version meta.k8s.io/v1)")
    if any(part in ("", ".", "..") for part in token.start.removeprefix("/").split("/")):
        raise _bad_token(token.start)  # no key of a list begins so
    return token


def _illegal_base64(text: str) -> int | None:
    """Where Go's RFC 4648 §5 decoder gives up, if it does."""
    odd = re.search("[^-_A-Za-z0-9]", text)
    if odd is not None:
        return odd.start()
    return len(text) - 1 if len(text) % 4 == 1 else None


def _bad_token(detail: str) -> StatusError:
    return bad_request(f"invalid continue token: continue key is not valid: {detail}")
