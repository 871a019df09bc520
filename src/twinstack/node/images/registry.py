"""A repository of a registry: manifests and blobs by the distribution API v2 (OCI distribution-spec 1.1). Blocks.

Whoever is asked who they are answers as the registry wants it (Basic, or a token of its token server; Docker's token
authentication). A blob that was cut off is gone on with where it ended, also by the next pull.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import logging
import re
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

from twinstack.node.images import manifests
from twinstack.node.images.compression import Reader
from twinstack.node.images.credentials import Credentials
from twinstack.node.images.errors import ImageError
from twinstack.node.images.http import Answer, Client, Unreachable
from twinstack.node.images.manifests import Descriptor
from twinstack.node.images.reference import DEFAULT_DOMAIN, DEFAULT_TAG, Reference
from twinstack.node.images.store import PARTIAL, ImageStore, digest

ATTEMPTS = 4  # in a row without a byte more
FIRST_PAUSE = 0.5  # seconds before the second one; doubles
LARGEST_BLOB = 64 << 30
_CHUNK = 1 << 18
_BUSY = (408, 429, 500, 502, 503, 504)
_PARAMETER = re.compile(r'([a-zA-Z_]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
_ACCEPT = ", ".join((*manifests.INDEXES, *manifests.MANIFESTS))

log = logging.getLogger(__name__)


class Denied(ImageError):
    """Other credentials may get further."""


class Stopped(ImageError):
    """Nobody waits for it any more."""


class Repository:
    """Of one image. `progress` is told how many bytes have come; `stop` ends it between two of them."""

    def __init__(
        self,
        client: Client,
        store: ImageStore,
        reference: Reference,
        credentials: Credentials | None,
        progress: Callable[[int], None],
        stop: threading.Event,
    ) -> None:
        self._client = client
        self._store = store
        self._reference = reference
        self._host = "registry-1.docker.io" if reference.domain == DEFAULT_DOMAIN else reference.domain
        self._credentials = credentials
        self._authorization = ""
        self._progress = progress
        self._stop = stop

    def resolve(self) -> tuple[str, bytes]:
        """The digest that the reference stands for, and the document. Raises ImageError."""
        self._client.find_scheme(self._host)
        wanted = self._reference.digest or self._reference.tag or DEFAULT_TAG
        data = self._document(wanted)
        found = digest(data)
        if self._reference.digest.startswith("sha512:"):
            if f"sha512:{hashlib.sha512(data).hexdigest()}" != self._reference.digest:
                raise ImageError(f"the registry's manifest does not have the digest {self._reference.digest}")
        elif self._reference.digest and found != self._reference.digest:
            raise ImageError(f"the registry's manifest has the digest {found} and not {self._reference.digest}")
        return found, data

    def manifest(self, row: Descriptor) -> bytes:
        """One that an index names. Raises ImageError."""
        data = self._document(row.digest)
        if digest(data) != row.digest:
            raise ImageError(f"the registry's manifest has the digest {digest(data)} and not {row.digest}")
        return data

    @contextlib.contextmanager
    def open(self, wanted: Descriptor) -> Iterator[Reader]:
        """A blob, once all of it has come and its digest is right (see assembly.Blobs)."""
        if wanted.size > LARGEST_BLOB:
            raise ImageError(f"a blob of {wanted.size} bytes is too large")
        name = wanted.digest.removeprefix("sha256:") + PARTIAL
        with self._store.alone(name) as path:
            self._download(wanted, path)
            try:
                with path.open("rb") as file:
                    yield file
            finally:
                path.unlink(missing_ok=True)

    def _document(self, wanted: str) -> bytes:
        url = f"{self._client.base(self._host)}/v2/{self._reference.path}/manifests/{wanted}"
        with self._ask(url, {"Accept": _ACCEPT}) as answer:
            self._expect(answer, 200)
            return _whole(answer)

    def _download(self, wanted: Descriptor, path: Path) -> None:
        """All of a blob into a file, or what is missing of it. Raises ImageError."""
        url = f"{self._client.base(self._host)}/v2/{self._reference.path}/blobs/{wanted.digest}"
        with path.open("a+b") as file:
            if file.tell() > wanted.size:
                file.truncate(0)
            failures = 0
            while (had := file.seek(0, 2)) < wanted.size:
                try:
                    self._append(url, wanted, file, had)
                except Unreachable as error:
                    failures = 1 if file.seek(0, 2) > had else failures + 1
                    if error.hopeless or failures >= ATTEMPTS:
                        raise
                    log.info("%s: %s; again", self._reference, error)
                    self._pause(failures)
            file.seek(0)
            found = hashlib.sha256()
            for data in iter(lambda: file.read(_CHUNK), b""):
                found.update(data)
            if f"sha256:{found.hexdigest()}" != wanted.digest:
                file.truncate(0)  # nothing of it can be gone on with
                raise ImageError(
                    f"the registry's blob has the digest sha256:{found.hexdigest()} and not {wanted.digest}"
                )

    def _append(self, url: str, wanted: Descriptor, file: IO[bytes], had: int) -> None:
        headers = {"Range": f"bytes={had}-"} if had else {}
        with self._ask(url, headers) as answer:
            self._expect(answer, 200, 206)
            if answer.status == 206 and not (answer.headers.get("Content-Range") or "").startswith(f"bytes {had}-"):
                raise ImageError(f'Get "{url}": the registry sent another part than that from byte {had}')
            if answer.status == 200 and had:
                file.truncate(0)
                had = 0
            while data := answer.read(_CHUNK):
                if self._stop.is_set():
                    raise Stopped(f"{self._reference}: nobody waits for it any more")
                had += len(data)
                if had > wanted.size:
                    file.truncate(0)
                    raise ImageError(f'Get "{url}": more than the {wanted.size} bytes that were announced')
                file.write(data)
                self._progress(len(data))
        if had < wanted.size:
            file.flush()
            raise Unreachable(f'Get "{url}": unexpected end after {had} of {wanted.size} bytes')

    # --- asking, and who asks

    def _ask(self, url: str, headers: dict[str, str]) -> Answer:
        """With a token if one is wanted; again when the registry is busy. Raises ImageError."""
        failures = 0
        asked = False
        while True:
            own = headers | ({"Authorization": self._authorization} if self._authorization else {})
            answer = self._client.get(url, own)
            if answer.status == 401 and not asked:
                asked = True
                with answer:
                    challenge = answer.headers.get("WWW-Authenticate") or ""
                    self._authorization = self._authorize(challenge)
                continue
            if answer.status not in _BUSY:
                return answer
            failures += 1
            answer.close()
            if failures >= ATTEMPTS:
                raise Unreachable(f'Get "{url}": unexpected status {answer.status}')
            self._pause(failures)

    def _pause(self, failures: int) -> None:
        if self._stop.wait(FIRST_PAUSE * 2 ** (failures - 1)):
            raise Stopped(f"{self._reference}: nobody waits for it any more")

    def _authorize(self, challenge: str) -> str:
        """The value of Authorization that a challenge (RFC 9110, 11.6.1) asks for. Raises Denied, ImageError."""
        scheme, _, rest = challenge.strip().partition(" ")
        own = self._credentials
        if scheme.lower() == "basic" and own is not None and own.user:
            return _basic(own)
        if scheme.lower() != "bearer":
            raise Denied(self._denied("no basic auth credentials"))
        found = {name.lower(): quoted or plain for name, quoted, plain in _PARAMETER.findall(rest)}
        realm = found.get("realm", "")
        parts = urllib.parse.urlsplit(realm)
        if parts.scheme not in ("https", "http") or not parts.netloc:
            raise ImageError(f"the registry's token server is {realm[:200]!r}")
        query = {key: found[key] for key in ("service", "scope") if key in found}
        query.setdefault("scope", f"repository:{self._reference.path}:pull")
        return f"Bearer {self._token(realm, query)}"

    def _token(self, realm: str, query: dict[str, str]) -> str:
        own = self._credentials
        if own is not None and own.identity_token:
            form = {
                **query,
                "grant_type": "refresh_token",
                "refresh_token": own.identity_token,
                "client_id": "twinstack",
            }
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            answer = self._client.get(realm, headers, method="POST", body=urllib.parse.urlencode(form).encode())
        else:
            headers = {"Authorization": _basic(own)} if own is not None and own.user else {}
            joint = "&" if "?" in realm else "?"
            answer = self._client.get(realm + joint + urllib.parse.urlencode(query), headers)
        with answer:
            if answer.status in (401, 403):
                raise Denied(self._denied("failed to authorize: failed to fetch oauth token"))
            self._expect(answer, 200)
            found = manifests.document(_whole(answer))
        token = found.get("token") or found.get("access_token")
        if not isinstance(token, str) or not token or not token.isascii() or not token.isprintable():
            raise ImageError(f"the token server {realm} sent no token")
        return token

    def _expect(self, answer: Answer, *statuses: int) -> None:
        """Raises Denied, ImageError for another answer."""
        if answer.status in statuses:
            return
        if answer.status in (401, 403):
            raise Denied(self._denied(_said(answer) or "insufficient_scope: authorization failed"))
        if answer.status == 404:
            raise ImageError(f"{self._reference}: not found")
        said = _said(answer)
        raise ImageError(f'Get "{answer.url}": unexpected status {answer.status}{": " if said else ""}{said}')

    def _denied(self, why: str) -> str:
        text = "pull access denied, repository does not exist or may require authorization"
        return f"{text}: server message: {why}"


def attempts(credentials: Sequence[Credentials]) -> list[Credentials | None]:
    """Whom to try to be, in order: nobody if nothing is known."""
    return list(credentials) or [None]


def _basic(own: Credentials) -> str:
    return f"Basic {base64.b64encode(f'{own.user}:{own.password}'.encode()).decode()}"


def _whole(answer: Answer) -> bytes:
    data = b""
    until = time.monotonic() + 60  # seconds for a document, however slowly it drips
    while part := answer.read(1 << 16):
        data += part
        if len(data) > manifests.LONGEST_DOCUMENT or time.monotonic() > until:
            raise ImageError(f'Get "{answer.url}": the document is too long')
    return data


def _said(answer: Answer) -> str:
    """What an error's body says, in few words."""
    try:
        errors = json.loads(answer.read(1 << 16))["errors"]
        return "; ".join(f"{error.get('code')}: {error.get('message')}" for error in errors)[:500]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, Unreachable):
        return ""
