"""Who asks: client certificates and bearer tokens. Pure but for reading the token file."""

from __future__ import annotations

import base64
import csv
import hashlib
import logging
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from twinstack.api.errors import StatusError, go_value
from twinstack.server.messages import UserInfo

ANONYMOUS = UserInfo(name="system:anonymous", groups=("system:unauthenticated",))
AUTHENTICATED = "system:authenticated"

log = logging.getLogger(__name__)

_CREDENTIAL = "authentication.kubernetes.io/credential-id"
_INVALID = "invalid bearer token"
_WEBSOCKET_BEARER = "base64url.bearer.authorization.k8s.io."


class TokenFileError(ValueError):
    """A token file that cannot be used; the message names file and line."""


def certificate_user(certificate: Mapping[str, Any] | None, der: bytes | None = None) -> UserInfo:
    """The user that a verified certificate names: CN, and every O as a group.

    `certificate` and `der` are what `ssl.SSLSocket.getpeercert` gives; without one, or without a CN, anonymous.
    """
    if not certificate:
        return ANONYMOUS
    subject = [pair for name in certificate.get("subject", ()) for pair in name]
    names = [value for kind, value in subject if kind == "commonName"]
    if not names or not names[-1]:
        return ANONYMOUS
    groups = tuple(value for kind, value in subject if kind == "organizationName")
    fingerprint = ((_CREDENTIAL, (f"X509SHA256={hashlib.sha256(der).hexdigest()}",)),) if der else ()
    return UserInfo(name=names[-1], groups=(*groups, AUTHENTICATED), extra=fingerprint)


def read_tokens(path: str) -> dict[str, UserInfo]:
    """Read `--token-auth-file`: CSV lines `token,user,uid[,"group1,group2"]`. Raises TokenFileError, OSError."""
    tokens: dict[str, UserInfo] = {}
    with open(path, newline="", encoding="utf-8") as file:
        for number, fields in enumerate(csv.reader(file, skipinitialspace=True), 1):
            if not fields or fields[0].startswith("#"):
                continue
            if len(fields) < 3 or not fields[0] or not fields[1]:
                raise TokenFileError(
                    f"{path}:{number}: a line is token,user,uid with groups as an optional fourth field"
                )
            groups = tuple(group.strip() for group in fields[3].split(",")) if len(fields) > 3 and fields[3] else ()
            if fields[0] not in tokens:
                tokens[fields[0]] = UserInfo(name=fields[1], groups=(*groups, AUTHENTICATED), uid=fields[2])
    return tokens


class InvalidToken(Exception):
    """Why a token does not count: upstream's words, for logs and TokenReviews. Never the token itself."""


class Known(NamedTuple):
    """Whom a token stands for, and for which of the wanted audiences it counts."""

    user: UserInfo
    audiences: tuple[str, ...] = ()


class TokenAuthenticator(Protocol):
    """One kind of bearer token."""

    def authenticate(self, token: str, digest: bytes, audiences: Sequence[str] = ()) -> Known | None:
        """None for a token of another kind. `digest` stands for the token where it is remembered; `audiences`: for
        whom it must be, by default for this server. Raises InvalidToken."""


class Authenticator:
    """Decides who a request is from. The certificate's user, if any, comes first, then the bearer token.

    `tokens` are static; `audiences` are those for which they count. Tokens are looked up by a keyed hash, so that the
    time of a comparison tells nothing about them.
    """

    def __init__(
        self,
        tokens: Mapping[str, UserInfo],
        others: Sequence[TokenAuthenticator] = (),
        audiences: Sequence[str] = (),
    ) -> None:
        self._salt = secrets.token_bytes(32)
        self._tokens = {self._digest(token): user for token, user in tokens.items()}
        self._others = tuple(others)
        self._audiences = tuple(audiences)

    def authenticate(self, certificate: UserInfo, headers: dict[str, str]) -> UserInfo:
        """The user of a request. Raises StatusError 401 for a token that nobody has.

        A token among the subprotocols of a WebSocket is taken out, so that nobody passes it on.
        """
        if certificate is not ANONYMOUS:
            return certificate
        token = _bearer_token(headers)
        if not token:
            return certificate
        try:
            return self.token_user(token).user
        except InvalidToken as error:
            log.info("a bearer token was refused: %s", error)
            raise StatusError(401, "Unauthorized", "Unauthorized") from None

    def token_user(self, token: str, audiences: Sequence[str] = ()) -> Known:
        """Whom a bearer token stands for. Raises InvalidToken."""
        digest = self._digest(token)
        user = self._tokens.get(digest)
        if user is not None:
            common = tuple(each for each in self._audiences if not audiences or each in audiences)
            if common or not audiences:
                return Known(user, common)
        problems = [_INVALID]
        for each in self._others:
            try:
                known = each.authenticate(token, digest, audiences)
            except InvalidToken as error:
                problems.append(str(error))
                continue
            if known is not None:
                return known
        raise InvalidToken(f"[{', '.join(problems)}]" if len(problems) > 1 else _INVALID)

    def _digest(self, token: str) -> bytes:
        return hashlib.blake2b(token.encode(errors="surrogateescape"), key=self._salt, digest_size=32).digest()


def _bearer_token(headers: dict[str, str]) -> str:
    """From the Authorization header, or, for a browser's WebSocket, from a subprotocol; empty without one."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    if _WEBSOCKET_BEARER not in headers.get("sec-websocket-protocol", ""):
        return ""
    protocols = [each.strip() for each in headers["sec-websocket-protocol"].split(",")]
    found = [each.removeprefix(_WEBSOCKET_BEARER) for each in protocols if each.startswith(_WEBSOCKET_BEARER)]
    headers["sec-websocket-protocol"] = ", ".join(each for each in protocols if not each.startswith(_WEBSOCKET_BEARER))
    try:
        return base64.urlsafe_b64decode(found[0] + "=" * (-len(found[0]) % 4)).decode()
    except ValueError:
        return found[0]  # no token: it will be refused


def go_strings(values: Sequence[str]) -> str:
    """A list of strings as Go prints it with %q."""
    return f"[{' '.join(map(go_value, values))}]"
