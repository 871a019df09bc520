"""Who shows a service-account token. A token that was seen before costs a look at the objects it is bound to."""

from __future__ import annotations

import base64
import hmac
import time
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from twinstack.api import times
from twinstack.api.resources import Resource
from twinstack.server.accounts.claims import (
    ACCOUNTS,
    LEGACY_ISSUER,
    SECRETS,
    USER_PREFIX,
    BoundClaims,
    Found,
    LegacyClaims,
    Ref,
    account_user,
    bound_user,
    check_objects,
    check_times,
)
from twinstack.server.accounts.keys import AccountKeys
from twinstack.server.authentication import InvalidToken, Known, go_strings
from twinstack.server.messages import UserInfo
from twinstack.server.versions import Version
from twinstack.server.watchcache import WatchCache

REMEMBERED = 10_000  # tokens; more than that many at once are verified again and again
_INVALIDATED = "service account token has been invalidated"


class _Metadata(msgspec.Struct):
    uid: str = ""
    deletionTimestamp: str = ""  # noqa: N815 - the API's name


class _Head(msgspec.Struct):
    metadata: _Metadata


class _Data(msgspec.Struct):
    metadata: _Metadata
    data: dict[str, str] = {}


_HEAD = msgspec.json.Decoder(_Head)
_DATA = msgspec.json.Decoder(_Data)


class _Seen(NamedTuple):
    """What a verdict rests on: objects as they were, and the time until which it holds, Unix seconds."""

    known: Known
    objects: tuple[tuple[Resource, str, Version | None], ...]
    until: float


class AccountTokens:
    """Authenticates JSON Web Tokens of our issuers against the objects of `cache`."""

    def __init__(self, keys: AccountKeys, cache: WatchCache) -> None:
        self._keys = keys
        self._cache = cache
        self._seen: dict[bytes, _Seen] = {}

    def authenticate(self, token: str, digest: bytes, audiences: Sequence[str] = ()) -> Known | None:
        """The user of a token; None for one that is not ours. `digest` stands for it in memory.

        `audiences`: for whom it must be, by default for this server. Raises InvalidToken.
        """
        seen = self._seen.get(digest)
        if seen is None or not self._still(seen):
            seen = self._verified(token)
            if seen is None:
                return None
            while len(self._seen) >= REMEMBERED:
                del self._seen[next(iter(self._seen))]
            self._seen[digest] = seen
        wanted = audiences or self._keys.audiences
        common = tuple(each for each in seen.known.audiences if each in wanted)
        if not common:
            shown = go_strings(seen.known.audiences)
            raise InvalidToken(f"token audiences {shown} is invalid for the target audiences {go_strings(wanted)}")
        return Known(seen.known.user, common)

    def _still(self, seen: _Seen) -> bool:
        collection = self._cache.collection
        return time.time() < seen.until and all(collection(row).get(key) is found for row, key, found in seen.objects)

    def _verified(self, token: str) -> _Seen | None:
        if token.count(".") != 2 or _issuer(token) not in (*self._keys.issuers, LEGACY_ISSUER):
            return None
        from twinstack.pki.signatures import TokenError

        try:
            claims = self._keys.verifiers.verify(token)
            if claims.get("iss") == LEGACY_ISSUER:
                return self._legacy(token, msgspec.convert(claims, LegacyClaims))
            return self._bound(msgspec.convert(claims, BoundClaims))
        except (TokenError, msgspec.ValidationError) as error:
            raise InvalidToken(str(error)) from None

    def _bound(self, claims: BoundClaims) -> _Seen:
        now = time.time()
        reader = _Looking(self._cache)
        check_times(claims, now)
        check_objects(claims, reader.lookup, now)
        # One that holds may end by its time, or with the grace of a deletion; a minute bounds both.
        until = min(now + 60, claims.exp if claims.exp is not None and claims.exp > now else now)
        return _Seen(Known(bound_user(claims), tuple(claims.audiences)), tuple(reader.seen), until)

    def _legacy(self, token: str, claims: LegacyClaims) -> _Seen:
        namespace, account = claims.namespace, Ref(claims.account, claims.uid)
        if not (namespace and account.name and account.uid and claims.secret):
            raise InvalidToken("verify with legacy validator failed: a claim is missing")
        if claims.sub != f"{USER_PREFIX}{namespace}:{account.name}":
            raise InvalidToken("sub claim is invalid")
        reader = _Looking(self._cache)
        secret = reader.version(SECRETS, namespace, claims.secret)
        content = _DATA.decode(secret.value) if secret is not None else None
        stored = base64.b64decode(content.data.get("token", "")) if content is not None else b""
        if content is None or content.metadata.deletionTimestamp or not hmac.compare_digest(stored, token.encode()):
            raise InvalidToken(_INVALIDATED)
        found = reader.lookup(ACCOUNTS, namespace, account.name)
        if found is None:
            raise InvalidToken(f'serviceaccounts "{account.name}" not found')
        if found.deleted_at is not None:
            raise InvalidToken(f"ServiceAccount {namespace}/{account.name} has been deleted")
        if found.uid != account.uid:
            raise InvalidToken(f"ServiceAccount UID ({found.uid}) does not match claim ({account.uid})")
        user: UserInfo = account_user(namespace, account)
        return _Seen(Known(user, self._keys.audiences), tuple(reader.seen), time.time() + 60)


class _Looking:
    """Looks at stored objects and notes which versions it has seen."""

    def __init__(self, cache: WatchCache) -> None:
        self._cache = cache
        self.seen: list[tuple[Resource, str, Version | None]] = []

    def version(self, row: Resource, namespace: str, name: str) -> Version | None:
        key = row.key(namespace, name)
        version = self._cache.collection(row).get(key)
        self.seen.append((row, key, version))
        return version

    def lookup(self, row: Resource, namespace: str, name: str) -> Found | None:
        version = self.version(row, namespace, name)
        if version is None:
            return None
        meta = _HEAD.decode(version.value).metadata
        return Found(meta.uid, times.parse_time(meta.deletionTimestamp) if meta.deletionTimestamp else None)


class _Issuer(msgspec.Struct):
    iss: str = ""


def _issuer(token: str) -> str:
    """Who an unverified token says has made it; empty for what is no token."""
    payload = token.split(".")[1]
    try:
        data = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
        return msgspec.json.decode(data, type=_Issuer).iss
    except (ValueError, msgspec.MsgspecError):
        return ""
